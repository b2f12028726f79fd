/** Type definitions of longwire.js. */

/** The position of a message in its channel, such as `a41f03c2b7d9-1042`. */
export type Position = string;

export type Data = string | ArrayBuffer | ArrayBufferView | Blob;

export interface Options {
  /** Resume after this position. */
  after?: Position;
  /** Receive presence events. */
  presence?: boolean;
}

export interface OpenEvent extends Event {
  /** Whether all missed messages follow; undefined for a new subscription. */
  recovered?: boolean;
  /** The latest position of the channel. */
  position: Position;
}

export interface ChannelMessageEvent extends Event {
  data: string | ArrayBuffer;
  position: Position;
  /** The publishing user, if known. */
  user?: string;
}

export interface PresenceEvent extends Event {
  count: number;
  joined: string[];
  left: string[];
  /** The users by name, if the channel lists them. */
  users?: string[];
}

export interface EndEvent extends Event {
  code: number;
  reason: string;
  wasClean: boolean;
}

export interface ChannelErrorEvent extends Event {
  /** A close code, or a code of docs/protocol.md. */
  code: number | string;
  message?: string;
  /** Milliseconds until the next attempt. */
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
  /** The position of the last message. */
  readonly position?: Position;
  /** The number of connections and the users by name, as last reported. Requires `presence`. */
  readonly count?: number;
  readonly users?: string[];
  onopen?: (event: OpenEvent) => void;
  onmessage?: (event: ChannelMessageEvent) => void;
  onpresence?: (event: PresenceEvent) => void;
  onerror?: (event: ChannelErrorEvent) => void;
  onclose?: (event: EndEvent) => void;
  /**
   * Publishes a message. Resolves with its position when the server has it. Without a connection, the message waits and
   * is sent after reconnecting. An idempotency key, valid for five minutes, prevents duplicates. Rejects with the code
   * `full` if 1,000 requests are waiting.
   */
  send(data: Data): Promise<Position>;
  history(page?: { after?: Position; limit?: number }): Promise<Page>;
  members(): Promise<{ count: number; users?: string[] }>;
  close(code?: number, reason?: string): void;
}

export type Transport = 'websocket' | 'sse' | 'poll';

export interface ConnectionOptions {
  /** A token, or a function that returns a new one when needed. */
  token?: string | (() => string | Promise<string>);
  /** The transports to try, in order of preference. */
  transports?: Transport[];
  /** Milliseconds without data from the server until the client reconnects: 30,000 by default, at most 120,000. */
  silence?: number;
}

export interface Longwire extends States {}
export class Longwire extends EventTarget {
  constructor(url?: string | URL, options?: ConnectionOptions);
  readonly readyState: 0 | 1 | 2 | 3;
  /** The transport in use. */
  readonly transport: Transport | null;
  readonly url: string;
  onopen?: (event: Event & { transport: Transport; user?: string; expires?: number }) => void;
  /** The connection was lost; the client reconnects after `retry` milliseconds. */
  onerror?: (event: ChannelErrorEvent) => void;
  /** Closed for good: by this client, or for a reason that reconnecting cannot fix. */
  onclose?: (event: EndEvent) => void;
  channel(name: string, options?: Options): Channel;
  close(code?: number, reason?: string): void;
}
