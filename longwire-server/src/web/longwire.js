// longwire.js: channels in the browser, over WebSocket, else SSE and POST, else long polling.
//
//   const wire = new Longwire();                       // the server that this page comes from
//   const room = wire.channel('rooms/一', { presence: true });
//   room.onmessage = ({ data, position }) => show(data);
//   const position = await room.send('你好 👋');        // resolves when the server has it
//
// It speaks what docs/protocol.md says; longwire.d.ts has its types.

const FIRST = 500, LONGEST = 30000;      // backoff in milliseconds, with full jitter
const STABLE = 30000;                    // who was connected for so long begins anew with FIRST
const PATIENCE = 10000;                  // for a transport to open
const HELD = 1000;                       // requests that wait for a connection
const FATAL = [1002, 1003, 1007, 1008, 1009, 1010, 4401, 4403];
const STATES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };
const { OPEN, CLOSED } = STATES;

class Target extends EventTarget {
  readyState = 0;
  _fire(type, fields) {
    const event = Object.assign(new Event(type), fields);
    this['on' + type]?.(event);
    this.dispatchEvent(event);
  }
  _end(how) {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this._fire('close', { reason: '', wasClean: true, ...how });
  }
}
Object.assign(Target, STATES);
Object.assign(Target.prototype, STATES);

const failure = ({ code, message = code, ...more }) => Object.assign(new Error(message), { code, ...more });
const split = position => position?.split('-') ?? [];
const decode = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;

async function content(data) {
  if (!(data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data))) return { data: String(data) };
  let text = '';
  for (const byte of new Uint8Array(await new Blob([data]).arrayBuffer())) text += String.fromCharCode(byte);
  return { base64: btoa(text) };
}

/** One channel: the events and names of the browser's WebSocket, and positions. */
export class Channel extends Target {
  constructor(wire, name, { after, presence = false } = {}) {
    super();
    Object.assign(this, { name, presence, position: after, _wire: wire });
  }
  /** Publishes; resolves with the position. What waits for a connection is sent when there is one, and never twice. */
  async send(data) {
    const key = crypto.getRandomValues(new Uint32Array(3)).join('-');
    return (await this._ask('publish', { key, ...await content(data) })).position;
  }
  history(page) { return this._ask('history', page); }
  members() { return this._ask('presence'); }
  close(code = 1000, reason = '') {
    this._wire._leave(this);
    this._end({ code, reason });
  }

  _ask(type, more) { return this._wire._ask({ type, channel: this.name, ...more }); }
  _subscribed({ position, recovered, presence }) {
    if (!recovered || !this.position) this.position = position;
    if (this.readyState !== OPEN || recovered === false) {
      this.readyState = OPEN;
      this._fire('open', { recovered, position });
    }
    if (presence) this._fire('presence', { joined: Object.keys(presence.users ?? {}), left: [], ...presence });
  }
  // False if one before it is missing.
  _message({ position, data, base64, user }) {
    const [epoch, offset] = split(position), [before, last] = split(this.position);
    if (epoch === before && +offset <= +last) return true;
    if (epoch === before && +offset > +last + 1) return false;
    this.position = position;
    this._fire('message', { data: base64 === undefined ? data : decode(base64), position, lastEventId: position, user });
    return true;
  }
}

/** The connection to a server: it reconnects, resumes and falls back by itself. */
export class Longwire extends Target {
  _channels = new Map();                 // by name
  _asked = new Map();                    // by id: what waits for an answer
  _held = [];                            // what waits for a connection
  _id = 0;
  _at = 0;                               // which transport
  _failed = 0;

  constructor(url = location.href, { token, transports = ['websocket', 'sse', 'poll'] } = {}) {
    super();
    Object.assign(this, { url: new URL('/', url).href, token, transports, transport: null });
    this._online = () => { if (this._timer) this._connect(); };
    globalThis.addEventListener?.('online', this._online);
    queueMicrotask(() => this._connect());
  }
  channel(name, options) {
    let channel = this._channels.get(name);
    if (!channel) {
      this._channels.set(name, channel = new Channel(this, name, options));
      this._link?.join(channel);
    }
    return channel;
  }
  close(code = 1000, reason = '') { this._over({ code, reason }); }

  _over(how) {
    clearTimeout(this._timer);
    globalThis.removeEventListener?.('online', this._online);
    this._link?.stop();
    this._link = null;
    for (const { reject } of [...this._asked.values(), ...this._held]) reject(failure({ code: 'closed' }));
    for (const channel of this._channels.values()) channel._end(how);
    this._end(how);
  }
  _leave(channel) { if (this._channels.delete(channel.name)) this._link?.leave(channel); }

  async _connect() {
    clearTimeout(this._timer);
    this._timer = null;
    if (this.readyState === CLOSED || this._link) return;
    let begun;
    const link = this._link = new LINKS[this.transports[this._at]](this);
    const patience = setTimeout(() => link.down({ code: 1006 }), PATIENCE);
    link.up = welcome => {
      if (this._link !== link || begun) return;
      clearTimeout(patience);
      begun = Date.now();
      this.readyState = OPEN;
      this.transport = this.transports[this._at];
      this._fire('open', { ...welcome, transport: this.transport });
      for (const one of this._held.splice(0)) this._send(one);
    };
    link.down = how => {
      clearTimeout(patience);
      if (this._link !== link) return;
      this._link = null;
      link.stop();
      if (FATAL.includes(how.code)) return this._over(how);
      this.readyState = 0;
      for (const channel of this._channels.values()) channel.readyState = 0;
      // An answer that never came may stand for a message that did: its key keeps it from being there twice.
      this._held.unshift(...this._asked.values());
      this._asked.clear();
      if (begun && Date.now() - begun >= STABLE) this._failed = 0;
      // A transport that never opened is exchanged for the next one at once; after the last it waits.
      if (!begun) this._at = (this._at + 1) % this.transports.length;
      const most = Math.min(LONGEST, FIRST * 2 ** this._failed), now = !begun && this._at;
      if (!now) this._failed++;
      const retry = now ? 0 : how.code === 1013 ? most * (1 + Math.random()) : Math.random() * (how.code === 1012 ? 3000 : most);
      this._fire('error', { code: how.code, retry });
      this._timer = setTimeout(() => this._connect(), retry);
    };
    try {
      link.start(await this.token?.call?.(null) ?? this.token);
    } catch { link.down({ code: 1006 }); }
  }
  _event(event) {
    const channel = this._channels.get(event.channel);
    if (!channel) return;
    if (event.type === 'message') { if (!channel._message(event)) this._link?.rejoin(channel); }
    else if (event.type === 'subscribed') channel._subscribed(event);
    else if (event.type === 'presence') channel._fire('presence', event);
    else {
      this._channels.delete(channel.name);
      channel._fire('error', { code: event.code, message: event.message });
      channel._end({ code: 4403, reason: event.message });
    }
  }
  _ask(request) {
    return new Promise((resolve, reject) => {
      const one = { request, resolve, reject };
      if (this.readyState === OPEN && this._link) this._send(one);
      else if (this.readyState === CLOSED || this._held.length >= HELD) reject(failure({ code: this.readyState === CLOSED ? 'closed' : 'full' }));
      else this._held.push(one);
    });
  }
  _send(one) {
    this._asked.set(++this._id, one);
    this._link.request({ ...one.request, id: this._id });
  }
  _answer({ id, type, ...answer }) {
    const one = this._asked.get(id);
    this._asked.delete(id);
    if (type === 'ok') one?.resolve(answer); else one?.reject(failure(answer));
  }
}

/** WebSocket, with the subprotocol longwire.v1. */
class Session {
  joins = new Map();                     // by id: channels whose answer is to come
  constructor(wire) { this.wire = wire; }
  start(token) {
    const url = new URL('-/session' + (token ? '?token=' + encodeURIComponent(token) : ''), this.wire.url.replace(/^http/, 'ws'));
    const ws = this.ws = new WebSocket(url, 'longwire.v1');
    ws.onclose = how => this.down(how);
    ws.onmessage = ({ data }) => {
      const event = JSON.parse(data), { id, type } = event, channel = this.joins.get(id);
      this.joins.delete(id);
      if (type === 'welcome') {
        this.up(event);
        for (const one of this.wire._channels.values()) this.join(one);
      } else if (channel) this.wire._event({ ...event, channel: channel.name, type: type === 'ok' ? 'subscribed' : type });
      else if (id === undefined) this.wire._event(event);
      else this.wire._answer(event);
    };
  }
  request(request) { if (this.ws.readyState === OPEN) this.ws.send(JSON.stringify(request)); }
  join({ name: channel, position: after, presence }) {
    if (this.wire.readyState !== OPEN) return;
    this.joins.set(++this.wire._id, this.wire._channels.get(channel));
    this.request({ type: 'subscribe', id: this.wire._id, channel, after, presence });
  }
  leave({ name: channel }) { this.request({ type: 'unsubscribe', id: ++this.wire._id, channel }); }
  rejoin(channel) { this.leave(channel); this.join(channel); }
  stop() { if (this.ws) { this.ws.onclose = this.ws.onmessage = null; this.ws.close(); } }
}

/** What SSE and long polling have in common: requests by POST, and one address for all channels. */
class Http {
  constructor(wire) { this.wire = wire; }
  start(token) { this.token = token; this.begin(); }
  address(more) {
    const url = new URL('-/events', this.wire.url), add = (key, value) => value && url.searchParams.append(key, value);
    for (const { name, position, presence } of this.wire._channels.values()) {
      add('channel', name); add('after', position); add('presence', presence && '1');
    }
    for (const key in more) add(key, more[key]);
    return url;
  }
  async fetch(url, body) {
    const headers = this.token ? { Authorization: 'Bearer ' + this.token } : {};
    if (body) headers['Content-Type'] = 'application/json';
    const response = await fetch(url, { headers, method: body ? 'POST' : 'GET', body: body && JSON.stringify(body), signal: AbortSignal.timeout(60000) });
    return response.json();
  }
  async request({ id, type, ...request }) {
    try {
      const answer = await this.fetch(new URL('-/' + type, this.wire.url), type === 'publish' ? { messages: [request] } : request);
      const { error, ...result } = answer.results?.[0] ?? answer;
      this.wire._answer({ id, type: error ? 'error' : 'ok', ...error, ...result });
    } catch { this.down({ code: 1006 }); }
  }
  join() { clearTimeout(this.soon); this.soon = setTimeout(() => this.begin()); }
  leave() { this.join(); }
  rejoin() { this.join(); }
  stop() { clearTimeout(this.soon); this.source?.close(); this.round = null; }
}

class Sse extends Http {
  begin() {
    this.stop();
    if (!this.wire._channels.size) return this.up();
    const source = this.source = new EventSource(this.address({ token: this.token }));
    source.onopen = () => this.up();
    source.onmessage = ({ data }) => this.wire._event(JSON.parse(data));
    source.onerror = () => this.down({ code: 1006 });
  }
}

class Poll extends Http {
  async begin() {
    const round = this.round = {};
    try {
      for (let wait = '0'; this.round === round; wait = '25') {
        if (!this.wire._channels.size) return this.up();
        const { events, error } = await this.fetch(this.address({ wait }));
        if (this.round !== round) return;
        if (error) return this.down({ code: error.code === 'unauthorized' ? 4401 : 1006, reason: error.message });
        this.up();
        events.forEach(event => this.wire._event(event));
      }
    } catch { if (this.round === round) this.down({ code: 1006 }); }
  }
}

const LINKS = { websocket: Session, sse: Sse, poll: Poll };
