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
  /** Who published it, if known. */
  user?: string;
}

export interface PresenceEvent extends Event {
  count: number;
  joined: string[];
  left: string[];
  /** Who is there by name, as far as the channel lists them. */
  users?: string[];
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
  /** How many connections are there, and who by name, as was told last to who asked for `presence`. */
  readonly count?: number;
  readonly users?: string[];
  onopen?: (event: OpenEvent) => void;
  onmessage?: (event: ChannelMessageEvent) => void;
  onpresence?: (event: PresenceEvent) => void;
  onerror?: (event: TroubleEvent) => void;
  onclose?: (event: EndEvent) => void;
  /**
   * Publishes; resolves with the position when the server has the message. What waits for a connection is sent when there
   * is one again, and once: the server knows it by a key for five minutes. Rejected with `code` `full` when 1,000 wait.
   */
  send(data: Data): Promise<Position>;
  history(page?: { after?: Position; limit?: number }): Promise<Page>;
  members(): Promise<{ count: number; users?: string[] }>;
  close(code?: number, reason?: string): void;
}

export type Transport = 'websocket' | 'sse' | 'poll';

export interface ConnectionOptions {
  /** Or a function, which is asked for another one whenever that is needed. */
  token?: string | (() => string | Promise<string>);
  /** Those that are tried, in this order. */
  transports?: Transport[];
  /** Milliseconds without a word of the server until the connection is given up: 30,000 if not said, 120,000 at most. */
  silence?: number;
}

export interface Longwire extends States {}
export class Longwire extends EventTarget {
  constructor(url?: string | URL, options?: ConnectionOptions);
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
