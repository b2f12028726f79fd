// longwire.js: channels in the browser, over WebSocket, else SSE and POST, else long polling. docs/protocol.md is what it speaks.
//
//   const wire = new Longwire();                       // the server that this page comes from
//   const room = wire.channel('rooms/一', { presence: true });
//   room.onmessage = ({ data, position }) => show(data);
//   const position = await room.send('你好 👋');        // resolves when the server has it

const STATES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };
const FIRST = 500, LONGEST = 30000;      // backoff in ms, with full jitter
const STABLE = 30000;                    // a connection that lived so long begins anew with FIRST
const PATIENCE = 10000;                  // for a transport to open, for an answer
const HELD = 1000;                       // messages that wait for a connection
const FATAL = [1002, 1003, 1007, 1008, 1009, 1010, 4401, 4403];

class Target extends EventTarget {
  constructor() {
    super();
    this.readyState = STATES.CONNECTING;
  }
  _fire(type, fields) {
    const event = Object.assign(new Event(type), fields);
    this['on' + type]?.(event);
    this.dispatchEvent(event);
  }
}
for (const state in STATES) Target[state] = Target.prototype[state] = STATES[state];

const encode = bytes => {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
};
const decode = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
const content = async data => {
  if (data instanceof Blob) data = await data.arrayBuffer();
  if (data instanceof ArrayBuffer) return { base64: encode(new Uint8Array(data)) };
  if (ArrayBuffer.isView(data)) return { base64: encode(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) };
  return { data: String(data) };
};
const offset = position => Number(position.split('-')[1]);
const failure = ({ code, message }) => Object.assign(new Error(message ?? code), { code });

/** One channel: the events and names of the browser's WebSocket, and a position. */
export class Channel extends Target {
  constructor(wire, name, { after, presence = false } = {}) {
    super();
    Object.assign(this, { name, presence, position: after, _wire: wire });
  }
  /** Publishes; resolves with the position. What waits for a connection is sent once there is one, and never twice. */
  async send(data) {
    return this._wire._publish({ channel: this.name, ...await content(data) });
  }
  history({ after, limit } = {}) { return this._wire._ask({ type: 'history', channel: this.name, after, limit }); }
  members() { return this._wire._ask({ type: 'presence', channel: this.name }); }
  close() { this._end({ code: 1000, reason: '', wasClean: true }); this._wire._leave(this); }

  _end(how) {
    if (this.readyState === STATES.CLOSED) return;
    this.readyState = STATES.CLOSED;
    this._fire('close', how);
  }
  _opened({ position, recovered, presence }) {
    const resumed = this.position !== undefined && recovered === true;
    if (!resumed) this.position = position;
    this.readyState = STATES.OPEN;
    this._fire('open', { recovered, position });
    if (presence) this._fire('presence', { joined: Object.keys(presence.users ?? {}), left: [], ...presence });
  }
  // True if it follows the last one, or was seen already.
  _message({ position, data, base64, user }) {
    const last = this.position && offset(this.position);
    if (last !== undefined && position.split('-')[0] === this.position.split('-')[0]) {
      if (offset(position) <= last) return true;
      if (offset(position) > last + 1) return false;
    }
    this.position = position;
    this._fire('message', { data: base64 === undefined ? data : decode(base64), position, lastEventId: position, user });
    return true;
  }
}

/** The connection to a server; reconnects, resumes and falls back by itself. */
export class Longwire extends Target {
  constructor(url = globalThis.location?.href, { token, transports = ['websocket', 'sse', 'poll'] } = {}) {
    super();
    Object.assign(this, { url: new URL('/', url).href, token, transports, transport: null });
    Object.assign(this, { _channels: new Map(), _waiting: new Map(), _held: [], _id: 0, _at: 0, _failed: 0 });
    this._online = () => { if (this._timer) this._connect(); };
    globalThis.addEventListener?.('online', this._online);
    queueMicrotask(() => this._connect());
  }
  channel(name, options) {
    let channel = this._channels.get(name);
    if (!channel) {
      this._channels.set(name, channel = new Channel(this, name, options));
      this._link?.join?.(channel);
    }
    return channel;
  }
  close(code = 1000, reason = '') { this._over({ code, reason, wasClean: true }); }

  _over(how) {
    if (this.readyState === STATES.CLOSED) return;
    this.readyState = STATES.CLOSED;
    clearTimeout(this._timer);
    globalThis.removeEventListener?.('online', this._online);
    this._link?.stop(how.code);
    this._link = null;
    for (const { reject } of [...this._waiting.values(), ...this._held]) reject(failure({ code: 'closed' }));
    for (const channel of this._channels.values()) channel._end(how);
    this._fire('close', how);
  }
  _leave(channel) {
    if (!this._channels.delete(channel.name)) return;
    this._link?.leave?.(channel);
  }
  async _connect() {
    clearTimeout(this._timer);
    this._timer = null;
    if (this.readyState === STATES.CLOSED || this._link) return;
    const link = this._link = new LINKS[this.transports[this._at]](this);
    let begun = 0;
    const patience = setTimeout(() => link.down({ code: 1006 }), PATIENCE);
    link.up = welcome => {
      clearTimeout(patience);
      if (this._link !== link) return;
      begun = Date.now();
      Object.assign(this, { readyState: STATES.OPEN, transport: this.transports[this._at] });
      this._fire('open', { transport: this.transport, ...welcome });
      for (const held of this._held.splice(0)) this._carry(held);
    };
    link.down = how => {
      clearTimeout(patience);
      if (this._link !== link) return;
      this._link = null;
      link.stop();
      if (FATAL.includes(how.code)) return this._over({ reason: '', wasClean: true, ...how });
      // An answer that never came may stand for a message that did: a publication is repeated with its key.
      const waiting = [...this._waiting.values()];
      this._waiting.clear();
      for (const one of waiting) if (one.request.type === 'publish') this._hold(one); else one.reject(failure({ code: 'lost' }));
      for (const channel of this._channels.values()) channel.readyState = STATES.CONNECTING;
      if (!begun) this._at = (this._at + 1) % this.transports.length;
      if (begun && Date.now() - begun >= STABLE) this._failed = 0;
      this.readyState = STATES.CONNECTING;
      // A transport that never opened is exchanged for the next at once; after the last of them it waits.
      const next = !begun && this._at > 0;
      const most = Math.min(LONGEST, FIRST * 2 ** this._failed++);
      const wait = next ? 0 : (how.code === 1013 ? most : 0) + Math.random() * (how.code === 1012 ? 3000 : most);
      this._fire('error', { code: how.code, retry: wait });
      this._timer = setTimeout(() => this._connect(), wait);
    };
    try {
      const token = typeof this.token === 'function' ? await this.token() : this.token;
      if (this._link === link) link.start(token);
    } catch { link.down({ code: 1006 }); }
  }
  _event(event) {
    const channel = this._channels.get(event.channel);
    if (!channel) return;
    if (event.type === 'message') { if (!channel._message(event)) this._link?.rejoin(channel); }
    else if (event.type === 'subscribed') channel._opened(event);
    else if (event.type === 'presence') channel._fire('presence', event);
    else if (event.type === 'unsubscribed' || event.type === 'error') {
      this._channels.delete(channel.name);
      channel._fire('error', { code: event.code, message: event.message });
      channel._end({ code: 4403, reason: event.message ?? event.code, wasClean: true });
    }
  }
  _publish(message) {
    const key = crypto.getRandomValues(new Uint32Array(3)).join('-');
    return this._ask({ type: 'publish', key, ...message }).then(({ position }) => position);
  }
  _ask(request) {
    return new Promise((resolve, reject) => {
      const one = { request, resolve, reject };
      if (this.readyState === STATES.CLOSED) reject(failure({ code: 'closed' }));
      else if (this.readyState === STATES.OPEN && this._link) this._carry(one);
      else this._hold(one);
    });
  }
  _hold(one) {
    if (this._held.length < HELD) this._held.push(one); else one.reject(failure({ code: 'full' }));
  }
  _carry(one) {
    const id = ++this._id;
    this._waiting.set(id, one);
    this._link.request({ ...one.request, id });
  }
  _answer({ id, type, ...answer }) {
    const one = this._waiting.get(id);
    this._waiting.delete(id);
    if (type === 'ok') one?.resolve(answer); else one?.reject(failure(answer));
  }
}

/** WebSocket, with the subprotocol longwire.v1. */
class Session {
  constructor(wire) { this.wire = wire; this.joins = new Map(); }
  start(token) {
    const url = new URL('/-/session', this.wire.url);
    url.protocol = url.protocol.replace('http', 'ws');
    if (token) url.searchParams.set('token', token);
    const ws = this.ws = new WebSocket(url, 'longwire.v1');
    ws.onclose = ({ code, reason }) => this.down({ code, reason });
    ws.onmessage = ({ data }) => {
      const event = JSON.parse(data), channel = this.joins.get(event.id);
      if (event.type === 'welcome') {
        this.up(event);
        for (const one of this.wire._channels.values()) this.join(one);
      } else if (channel) {
        this.joins.delete(event.id);
        this.wire._event({ ...event, channel: channel.name, type: event.type === 'ok' ? 'subscribed' : 'error' });
      } else if (event.id !== undefined) this.wire._answer(event);
      else this.wire._event(event);
    };
  }
  request(request) { this.ws.send(JSON.stringify(request)); }
  join(channel) {
    if (this.ws?.readyState !== 1) return;
    const id = ++this.wire._id;
    this.joins.set(id, channel);
    this.request({ type: 'subscribe', id, channel: channel.name, after: channel.position, presence: channel.presence });
  }
  leave(channel) { if (this.ws?.readyState === 1) this.request({ type: 'unsubscribe', id: ++this.wire._id, channel: channel.name }); }
  rejoin(channel) { this.leave(channel); this.join(channel); }
  stop(code) { if (this.ws) { this.ws.onclose = this.ws.onmessage = null; this.ws.close(code); } }
}

/** What SSE and long polling have in common: requests by HTTP. */
class Http {
  constructor(wire) { this.wire = wire; }
  start(token) { this.token = token; this.begin(); }
  address(extra = {}) {
    const url = new URL('/-/events', this.wire.url);
    for (const { name, position, presence } of this.wire._channels.values()) {
      url.searchParams.append('channel', name);
      if (position) url.searchParams.append('after', position);
      if (presence) url.searchParams.append('presence', '1');
    }
    for (const key in extra) if (extra[key] !== undefined) url.searchParams.append(key, extra[key]);
    return url;
  }
  fetch(url, options) {
    const headers = { 'Content-Type': 'application/json', ...(this.token && { Authorization: `Bearer ${this.token}` }) };
    return fetch(url, { headers, signal: AbortSignal.timeout(60000), ...options });
  }
  async request({ id, type, ...request }) {
    try {
      const path = type === 'publish' ? '/-/publish' : `/-/${type}`;
      const response = await this.fetch(new URL(path, this.wire.url), { method: 'POST', body: JSON.stringify(type === 'publish' ? { messages: [request] } : request) });
      const answer = await response.json(), result = answer.results?.[0] ?? answer;
      this.wire._answer({ id, type: result.error ? 'error' : 'ok', ...(result.error ?? result) });
    } catch { this.down({ code: 1006 }); }
  }
  join() { clearTimeout(this.soon); this.soon = setTimeout(() => this.begin(), 0); }
  leave() { this.join(); }
  rejoin() { this.join(); }
}

class Sse extends Http {
  begin() {
    this.stop();
    if (!this.wire._channels.size) return this.up();
    const source = this.source = new EventSource(this.address({ token: this.token }));
    source.onopen = () => { if (this.wire.readyState !== STATES.OPEN) this.up(); };
    source.onmessage = ({ data }) => this.wire._event(JSON.parse(data));
    source.onerror = () => this.down({ code: 1006 });
  }
  stop() { this.source?.close(); }
}

class Poll extends Http {
  async begin() {
    const round = this.round = {};
    let wait = 0;
    while (this.round === round) {
      if (!this.wire._channels.size) return this.up();
      try {
        const response = await this.fetch(this.address({ wait }));
        if (this.round !== round) return;
        if (response.status === 401) return this.down({ code: 4401, reason: 'unauthorized' });
        const { events } = await response.json();
        if (this.wire.readyState !== STATES.OPEN) this.up();
        for (const event of events) if (event.type !== 'subscribed' || this.wire._channels.get(event.channel)?.readyState !== STATES.OPEN || event.recovered === false) this.wire._event(event);
        wait = 25;
      } catch { return this.round === round && this.down({ code: 1006 }); }
    }
  }
  stop() { this.round = null; }
}

const LINKS = { websocket: Session, sse: Sse, poll: Poll };
