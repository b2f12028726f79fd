// longwire.js: channels in the browser, over WebSocket, or else SSE and POST, or else long polling.
//
//   const wire = new Longwire();                       // the server of this page
//   const room = wire.channel('rooms/一', { presence: true });
//   room.onmessage = ({ data, position }) => show(data);
//   const position = await room.send('你好 👋');        // resolves when the server has it
//
// docs/protocol.md describes the protocol, and longwire.d.ts the types.

const
  FIRST = 500, MOST = 30000,             // backoff in milliseconds, with full jitter; reset after being connected for MOST
  PATIENCE = 10000,                      // timeout for opening a transport
  HELD = 1000,                           // maximum number of requests that wait for a connection
  FATAL = [1002, 1003, 1007, 1008, 1009, 1010, 4401, 4403],
  OPEN = 1, CLOSED = 3, STATES = { CONNECTING: 0, OPEN, CLOSING: 2, CLOSED },
  failure = ({ code, message = code, ...more }) => Object.assign(new Error(message), { code, ...more }),
  split = position => position?.split('-') ?? [],
  decode = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;

class Target extends EventTarget {
  readyState = 0;
  constructor() {
    super();
    // An exception in a handler does not affect the others, as everywhere in the browser.
    for (const type of ['open', 'message', 'presence', 'error', 'close']) {
      this.addEventListener(type, event => this['on' + type]?.(event));
    }
  }
  _fire(type, fields) { this.dispatchEvent(Object.assign(new Event(type), fields)); }
  _end({ code, reason = '', wasClean = code !== 1006 }) {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this._fire('close', { code, reason, wasClean });
  }
}
Object.assign(Target, STATES);
Object.assign(Target.prototype, STATES);

async function encode(data) {
  if (!(data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data))) return { data: String(data) };
  let text = '';
  for (const byte of new Uint8Array(await new Blob([data]).arrayBuffer())) text += String.fromCharCode(byte);
  return { base64: btoa(text) };
}

/** A channel, with the events and names of the browser's WebSocket, and positions. */
export class Channel extends Target {
  _turn = Promise.resolve();             // keeps the order of messages while binary data is encoded
  constructor(wire, name, { after, presence = false } = {}) {
    super();
    Object.assign(this, { name, presence, position: after, _wire: wire });
  }
  /** Publishes a message and resolves with its position. Without a connection, it is sent later, and never twice. */
  async send(data) {
    const key = crypto.getRandomValues(new Uint32Array(4)).join('-'), encoded = encode(data);
    await (this._turn = this._turn.then(() => encoded.catch(() => {})));
    return (await this._ask('publish', { key, ...await encoded })).position;
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
    if (presence) this._present(presence);
  }
  // Returns false if a message before this one is missing.
  _message({ position, data, base64, user }) {
    const [epoch, offset] = split(position), [before, last] = split(this.position);
    if (epoch === before && +offset !== +last + 1) return +offset <= +last;
    this.position = position;
    this._fire('message', { data: base64 === undefined ? data : decode(base64), position, user });
    return true;
  }
  _present({ count, users, joined = [], left = [] }) {
    if (users) this.users = users;
    else if (this.users) this.users = [...this.users.filter(user => !left.includes(user)), ...joined].sort();
    this.count = count;
    this._fire('presence', { count, users: this.users, joined, left });
  }
}

/** The connection to a server. It reconnects, resumes and falls back automatically. */
export class Longwire extends Target {
  _channels = new Map();                 // by name
  _asked = new Map();                    // by id: requests without a reply yet
  _held = [];                            // requests that wait for a connection
  _id = 0;
  _at = 0;                               // index of the transport
  _failed = 0;

  constructor(url = location, { token, transports = ['websocket', 'sse', 'poll'], silence = 30000 } = {}) {
    super();
    Object.assign(this, { url: new URL('/', url).href, token, transports, silence, transport: null });
    this._online = () => { if (this._timer) this._connect(); };
    addEventListener('online', this._online);
    queueMicrotask(() => this._connect());
  }
  channel(name, options) {
    let channel = this._channels.get(name);
    if (!channel) {
      this._channels.set(name, channel = new Channel(this, name, options));
      this._link?._join(channel);
    }
    return channel;
  }
  close(code = 1000, reason = '') { this._over({ code, reason }); }

  _over(how) {
    clearTimeout(this._timer);
    clearTimeout(this._renewal);
    removeEventListener('online', this._online);
    this._link?._stop();
    this._link = null;
    for (const { reject } of [...this._asked.values(), ...this._held]) reject(failure({ code: 'closed' }));
    for (const channel of this._channels.values()) channel._end(how);
    this._end(how);
  }
  _leave(channel) {
    if (this._channels.get(channel.name) !== channel) return;
    this._channels.delete(channel.name);
    this._link?._leave(channel);
  }

  async _connect() {
    clearTimeout(this._timer);
    this._timer = null;
    if (this.readyState === CLOSED || this._link) return;
    let begun, token;
    const link = this._link = new LINKS[this.transports[this._at]](this);
    const patience = setTimeout(() => link._down({ code: 1006 }), PATIENCE);
    link._up = ({ type, ...welcome } = {}) => {
      if (this._link !== link || begun) return;
      clearTimeout(patience);
      begun = Date.now();
      this.readyState = OPEN;
      this.transport = this.transports[this._at];
      this._renew(welcome.expires);
      for (const one of this._held.splice(0)) this._send(one);
      this._fire('open', { ...welcome, transport: this.transport });
    };
    link._down = ({ code, reason, mine }) => {
      clearTimeout(patience);
      if (this._link !== link) return;
      this._link = null;
      link._stop();
      if (FATAL.includes(code) && !(code === 4401 && this.token?.call)) return this._over({ code, reason });
      this.readyState = 0;
      for (const channel of this._channels.values()) channel.readyState = 0;
      // The server may have handled requests without a reply; idempotency keys prevent duplicate messages.
      this._held.unshift(...this._asked.values());
      this._asked.clear();
      if (begun && Date.now() - begun >= MOST) this._failed = this._at = 0;
      // If a transport has never opened, try the next one immediately; after the last one, wait.
      const next = !begun && !mine;
      if (next) this._at = (this._at + 1) % this.transports.length;
      const most = Math.min(MOST, FIRST * 2 ** this._failed), now = next && this._at;
      if (!now) this._failed++;
      const retry = now ? 0 : Math.random() * (code === 1012 ? 3000 : most);
      this._timer = setTimeout(() => this._connect(), retry);
      this._fire('error', { code, message: reason, retry });
    };
    try {
      token = await this.token?.call?.(null) ?? this.token;
    } catch { return link._down({ code: 4401, mine: true }); }
    try { if (this._link === link) link._start(token); } catch { link._down({ code: 1006 }); }
  }
  // Sends a new token before the current one expires, if there is a function that returns one.
  _renew(expires) {
    clearTimeout(this._renewal);
    if (!expires || !this.token?.call) return;
    this._renewal = setTimeout(async () => {
      // If this fails, the server closes the connection with 4401, and the client reconnects.
      try { this._renew((await this._ask({ type: 'token', token: await this.token() })).expires); } catch {}
    }, Math.min((expires * 1000 - Date.now()) * .8, 1e9));
  }
  _event(event) {
    const channel = this._channels.get(event.channel), { type, code, message } = event;
    if (!channel) return;
    if (type === 'subscribed') channel._subscribed(event);
    else if (type === 'message') { if (channel.readyState === OPEN && !channel._message(event)) this._link?._rejoin(channel); }
    else if (type === 'presence') channel._present(event);
    else {
      const retry = code === 'rate_limited' || code === 'unavailable' ? event.retry_after ?? 1000 : undefined, link = this._link;
      channel._fire('error', { code, message, retry });
      if (retry) setTimeout(() => { if (this._link === link && this._channels.get(channel.name) === channel) link._join(channel); }, retry);
      else {
        this._channels.delete(channel.name);
        channel._end({ code: 4403, reason: message });
      }
    }
  }
  _ask(request) {
    return new Promise((resolve, reject) => {
      const one = { request, resolve, reject };
      const code = this.readyState === CLOSED ? 'closed' : this._held.length >= HELD && 'full';
      if (code) reject(failure({ code }));
      else if (this.readyState === OPEN) this._send(one);
      else this._held.push(one);
    });
  }
  _send(one) {
    this._asked.set(++this._id, one);
    this._link._request({ ...one.request, id: this._id });
  }
  _answer({ id, type, ...answer }) {
    const one = this._asked.get(id);
    this._asked.delete(id);
    if (type === 'ok') one?.resolve(answer); else one?.reject(failure(answer));
  }
}

/** WebSocket, with the subprotocol longwire.v1. */
class Session {
  _joins = new Map();                     // by id: channels whose reply is pending
  constructor(wire) { this._wire = wire; }
  _start(token) {
    const url = this._wire.url.replace(/^http/, 'ws') + '-/session';
    // The subprotocol is the only header that browsers let a page set.
    const ws = this._ws = new WebSocket(url, ['longwire.v1', ...token ? ['bearer.' + token] : []]);
    ws.onclose = how => this._down(how);
    ws.onmessage = ({ data }) => {
      const event = JSON.parse(data), { id, type } = event, channel = this._joins.get(id);
      this._alive();
      this._joins.delete(id);
      if (type === 'welcome') {
        this._welcomed = true;
        for (const one of this._wire._channels.values()) this._join(one);
        this._up(event);
      } else if (channel) {
        // The channel may have been closed and opened again in the meantime.
        if (this._wire._channels.get(channel.name) === channel) this._wire._event({ ...event, channel: channel.name, type: type === 'ok' ? 'subscribed' : type });
      } else if (id === undefined) this._wire._event(event);
      else this._wire._answer(event);
    };
  }
  // Pings a silent server, because a lost network goes unnoticed otherwise.
  _alive() {
    const half = this._wire.silence / 2;
    clearTimeout(this._timer);
    this._timer = setTimeout(() => {
      this._request({ type: 'ping', id: ++this._wire._id });
      this._timer = setTimeout(() => this._down({ code: 1006 }), half);
    }, half);
  }
  _request(request) { if (this._ws?.readyState === OPEN) this._ws.send(JSON.stringify(request)); }
  _join(channel) {
    if (!this._welcomed) return;
    const { name, position: after, presence } = channel;
    this._joins.set(++this._wire._id, channel);
    this._request({ type: 'subscribe', id: this._wire._id, channel: name, after, presence });
  }
  _leave({ name: channel }) { if (this._welcomed) this._request({ type: 'unsubscribe', id: ++this._wire._id, channel }); }
  _rejoin(channel) {
    if ([...this._joins.values()].includes(channel)) return;
    this._leave(channel);
    this._join(channel);
  }
  _stop() {
    clearTimeout(this._timer);
    if (this._ws) { this._ws.onclose = this._ws.onmessage = null; this._ws.close(); }
  }
}

/** The common part of SSE and long polling: requests by POST, and one URL for all channels. */
class Http {
  _queue = [];
  constructor(wire) { this._wire = wire; }
  _start(token) { this._token = token; this._begin(); }
  async _begin() {
    this._stop();
    if (!this._wire._channels.size) return this._up();
    const round = this._round = new AbortController();
    try { await this._listen(round.signal); } catch (error) { if (this._round === round) this._fail(error); }
  }
  _fail({ code, message }) { this._down({ code: code === 'unauthorized' ? 4401 : 1006, reason: message }); }
  _address(wait = '') {
    let query = 'events';
    for (const { name, position, presence } of this._wire._channels.values()) {
      query += (query[6] ? '&' : '?') + 'channel=' + encodeURIComponent(name) + (position ? '&after=' + position : '') + (presence ? '&presence=1' : '');
    }
    return query + wait;
  }
  async _fetch(path, options) {
    const headers = { ...options.headers, ...this._token && { Authorization: 'Bearer ' + this._token } };
    const response = await fetch(this._wire.url + '-/' + path, { ...options, headers });
    if (!response.ok) throw failure((await response.json()).error);
    return response;
  }
  _alive(time) {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._down({ code: 1006 }), time);
  }
  // Sends one request at a time to keep their order.
  async _request(request) {
    if (this._queue.push(request) > 1) return;
    for (let one; one = this._queue[0]; this._queue.shift()) {
      const { id, type, ...more } = one;
      let answer;
      try {
        const body = JSON.stringify(type === 'publish' ? { messages: [more] } : more), headers = { 'Content-Type': 'application/json' };
        const signal = AbortSignal.timeout(this._wire.silence);
        answer = await (await this._fetch(type, { method: 'POST', headers, body, signal })).json();
      } catch (error) {
        if (typeof error.code !== 'string' || error.code === 'unauthorized') return this._fail(error);
        answer = { error };
      }
      if (this._wire._link !== this) return;
      const { error, ...result } = answer.results?.[0] ?? answer;
      this._wire._answer(error ? { message: error.message, ...error, id } : { ...result, type: 'ok', id });
    }
  }
  _join() { clearTimeout(this._soon); this._soon = setTimeout(() => this._begin()); }
  _leave() { this._join(); }
  _rejoin() { this._join(); }
  _stop() {
    clearTimeout(this._soon);
    clearTimeout(this._timer);
    this._round?.abort();
    this._round = null;
  }
}

class Sse extends Http {
  async _listen(signal) {
    const { body } = await this._fetch(this._address(), { signal, headers: { Accept: 'text/event-stream' } });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    this._up();
    for (let text = ''; ;) {
      this._alive(Math.max(this._wire.silence, 20000));    // the server sends a comment every 15 s
      const { value, done } = await reader.read();
      if (done) throw {};
      const events = (text + value).split('\n\n');
      text = events.pop();
      for (const event of events) if (event[0] === 'd' && !signal.aborted) this._wire._event(JSON.parse(event.slice(6)));
    }
  }
}

class Poll extends Http {
  async _listen(signal) {
    for (let wait = 0; ; wait = Math.ceil(this._wire.silence / 2000)) {
      this._alive(this._wire.silence);
      const { events } = await (await this._fetch(this._address('&wait=' + wait), { signal })).json();
      this._up();
      for (const event of events) if (!signal.aborted) this._wire._event(event);
      if (signal.aborted) return;
    }
  }
}

const LINKS = { websocket: Session, sse: Sse, poll: Poll };
