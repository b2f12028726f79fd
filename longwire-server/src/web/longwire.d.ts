/** Types of longwire.js. */

/** Where a message is in its channel, such as `a41f03c2b7d9-1042`. */
export type Position = string;

export type Data = string | ArrayBuffer | ArrayBufferView | Blob;

export interface Options {
  /** Resume behind this position. */
  after?: Position;
  /** Be told who is there. */
  presence?: boolean;
}

export interface OpenEvent extends Event {
  /** Whether all that was missed follows; undefined if nothing was to be resumed. */
  recovered?: boolean;
  /** Where the channel is. */
  position: Position;
}

export interface ChannelMessageEvent extends Event {
  data: string | ArrayBuffer;
  position: Position;
  /** The same, as of an EventSource. */
  lastEventId: Position;
  /** Who published it, if known. */
  user?: string;
}

export interface PresenceEvent extends Event {
  count: number;
  joined: string[];
  left: string[];
  /** Everyone, with the number of their connections; only in the first event after an `open`. */
  users?: Record<string, number>;
}

export interface EndEvent extends Event {
  code: number;
  reason: string;
  wasClean: boolean;
}

export interface TroubleEvent extends Event {
  /** A close code, or a code of docs/protocol.md. */
  code: number | string;
  message?: string;
  /** Milliseconds to the next try. */
  retry?: number;
}

export interface Page {
  position: Position;
  recovered: boolean;
  more: boolean;
  messages: { position: Position; data?: string; base64?: string; user?: string; time: number }[];
}

interface States {
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
}

export interface Channel extends States {}
export class Channel extends EventTarget {
  private constructor();
  readonly name: string;
  readonly readyState: 0 | 1 | 2 | 3;
  /** That of the last message. */
  readonly position?: Position;
  onopen?: (event: OpenEvent) => void;
  onmessage?: (event: ChannelMessageEvent) => void;
  onpresence?: (event: PresenceEvent) => void;
  onerror?: (event: TroubleEvent) => void;
  onclose?: (event: EndEvent) => void;
  /** Publishes; resolves with the position when the server has the message. */
  send(data: Data): Promise<Position>;
  history(page?: { after?: Position; limit?: number }): Promise<Page>;
  members(): Promise<{ count: number; users?: Record<string, number> }>;
  close(code?: number, reason?: string): void;
}

export type Transport = 'websocket' | 'sse' | 'poll';

export interface Longwire extends States {}
export class Longwire extends EventTarget {
  constructor(url?: string, options?: { token?: string | (() => string | Promise<string>); transports?: Transport[] });
  readonly readyState: 0 | 1 | 2 | 3;
  /** The one in use. */
  readonly transport: Transport | null;
  readonly url: string;
  onopen?: (event: Event & { transport: Transport; user?: string; expires?: number }) => void;
  /** The connection was lost: it is tried again after `retry` milliseconds. */
  onerror?: (event: TroubleEvent) => void;
  /** It is over: closed here, or for a reason that another try would not mend. */
  onclose?: (event: EndEvent) => void;
  channel(name: string, options?: Options): Channel;
  close(code?: number, reason?: string): void;
}
