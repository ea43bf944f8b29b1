// A client on Node's own http, https and http2 modules. It prints one line for
// each case and exits with 1 when a case failed.
import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import http2 from 'node:http2';
import { createHash, randomBytes } from 'node:crypto';

const { plain, secure, path, token, protocol } = JSON.parse(process.argv[2]);
const auth = { authorization: `Bearer ${token}` };
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const v2 = protocol.startsWith('h2');
const base = protocol.endsWith('s') ? secure : plain;
const module = protocol === 'https' ? https : http;
const agent = v2 ? null : new module.Agent({ keepAlive: true, maxSockets: 4, rejectUnauthorized: false });
const session = v2 ? http2.connect(base, { rejectUnauthorized: false }) : null;
session?.on('error', (e) => console.log('session', e));

// open sends a head and returns { write, end, answer } where answer resolves
// to { status, headers, body (an async iterable), trailers() }.
function open(method, target, headers = {}) {
  if (v2) {
    const s = session.request({ ':method': method, ':path': path + target, ...auth, ...headers }, { endStream: false });
    let trailers = {};
    s.on('trailers', (t) => { trailers = t; });
    const answer = new Promise((resolve, reject) => {
      s.on('response', (h) => resolve({ status: h[':status'], headers: h, body: s, trailers: () => trailers }));
      s.on('error', reject);
      s.on('close', () => reject(new Error(`stream closed with ${s.rstCode}`)));
    });
    answer.catch(() => {});
    return { write: (b) => s.write(b), end: (b) => s.end(b), destroy: () => s.close(http2.constants.NGHTTP2_CANCEL), answer, raw: s };
  }
  const r = module.request(base + path + target, { method, agent, headers: { ...auth, ...headers } });
  const answer = new Promise((resolve, reject) => {
    r.on('response', (res) => resolve({ status: res.statusCode, headers: res.headers, body: res, trailers: () => res.trailers }));
    r.on('error', reject);
  });
  answer.catch(() => {});
  return { write: (b) => r.write(b), end: (b) => r.end(b), destroy: () => r.destroy(), answer, raw: r };
}

async function text(body) {
  const pieces = [];
  for await (const p of body) pieces.push(p);
  return Buffer.concat(pieces).toString();
}

async function ask(method, target, body, headers) {
  const c = open(method, target, headers);
  c.end(body);
  const a = await c.answer;
  return { ...a, text: await text(a.body) };
}

const cases = {
  async echo() {
    for (const size of [0, 1, 65536, 3_000_000]) {
      const body = randomBytes(size);
      const a = await ask('POST', '/echo?q=a%2Fb', body, { 'content-length': size });
      const got = JSON.parse(a.text);
      assert.equal(a.status, 200);
      assert.deepEqual([got.method, got.url, got.length], ['POST', '/echo?q=a%2Fb', size]);
      assert.equal(got.sha256, createHash('sha256').update(body).digest('hex'));
      assert.ok(!got.raw.includes('authorization'));
    }
  },
  async 'upload in pieces with a trailer'() {
    const c = open('PUT', '/echo', v2 ? {} : { 'transfer-encoding': 'chunked', trailer: 'x-sum' });
    const hash = createHash('sha256');
    for (let i = 0; i < 40; i++) {
      const piece = randomBytes(1 + i * 97);
      hash.update(piece);
      c.write(piece);
      if (i % 8 === 0) await sleep(2);
    }
    if (!v2) c.raw.addTrailers({ 'x-sum': 'abc' });
    c.end();
    const a = await c.answer;
    const got = JSON.parse(await text(a.body));
    assert.equal(got.sha256, hash.digest('hex'));
    if (!v2) assert.deepEqual(got.trailers, { 'x-sum': 'abc' });
  },
  async chunks() {
    const a = await ask('GET', '/chunks');
    let want = '';
    for (let i = 0; i < 50; i++) want += `chunk ${i};`.repeat(i + 1);
    assert.equal(a.text, want);
  },
  async trailers() {
    const a = await ask('GET', '/trailers', undefined, v2 ? { te: 'trailers' } : { te: 'trailers', connection: 'TE' });
    assert.equal(a.text, 'body end');
    assert.equal(a.trailers()['x-digest'], 'sha-1=none');
  },
  async 'events arrive one by one'() {
    const name = `${protocol}-${process.pid}`;
    const c = open('GET', `/events?name=${name}`, { accept: 'text/event-stream' });
    c.end();
    const a = await c.answer;
    assert.match(a.headers['content-type'], /^text\/event-stream/);
    let seen = '';
    let n = 0;
    for await (const piece of a.body) {
      seen += piece;
      while (seen.includes(`id: ${n}\n`) && seen.endsWith('\n\n')) {
        n++;
        if (n === 5) break;
        await ask('GET', `/wants?name=${name}&n=${n}`);
      }
      if (n === 5) break;
    }
    c.destroy();
    for (let i = 0; (await ask('GET', `/state?name=${name}`)).text !== 'closed'; i++) {
      assert.ok(i < 1000, 'the server still writes for a client that left');
      await sleep(10);
    }
  },
  async 'early answer'() {
    const c = open('POST', '/early', { 'content-length': 50_000_000 });
    c.raw.on('error', () => {}); // the rest of the body is not wanted
    const piece = Buffer.alloc(65536);
    let going = true;
    const upload = (async () => {
      for (let sent = 0; going && sent + piece.length < 50_000_000; sent += piece.length) {
        if (!c.write(piece)) await Promise.race([new Promise((done) => c.raw.once('drain', done)), c.answer, sleep(1000)]);
      }
    })();
    const a = await c.answer;
    going = false;
    assert.deepEqual([a.status, a.headers['x-early'], await text(a.body)], [422, 'yes', 'no need to go on']);
    c.destroy();
    await upload.catch(() => {});
  },
  async slow() {
    const all = await Promise.all(Array.from({ length: 8 }, () => ask('GET', '/slow')));
    for (const a of all) assert.equal(a.text, 'slowly done');
  },
  async 'answers that only announce the answer'() {
    assert.deepEqual((({ status, text }) => [status, text])(await ask('GET', '/hints')), [200, 'after hints']);
  },
  async 'answer that is cut'() {
    await assert.rejects(async () => {
      const a = await ask('GET', '/cut');
      if (a.text.length !== 1000) throw new Error('short');
    });
  },
  async 'no content'() {
    const a = await ask('GET', '/empty');
    assert.deepEqual([a.status, a.text, a.headers['content-length']], [204, '', undefined]);
  },
  async head() {
    const a = await ask('HEAD', '/echo');
    assert.deepEqual([a.status, a.text], [200, '']);
  },
  async cookies() {
    const a = await ask('GET', '/cookies');
    assert.deepEqual(a.headers['set-cookie'], ['a=1; Path=/', 'b=2; HttpOnly', 'c=3; Max-Age=1']);
  },
  async 'many calls on few connections'() {
    const sockets = new Set();
    const worker = async () => {
      for (let i = 0; i < 100; i++) {
        const c = open(i % 2 ? 'GET' : 'POST', `/echo?i=${i}`);
        if (!v2) c.raw.on('socket', (s) => sockets.add(s));
        c.end(i % 2 ? undefined : `body ${i}`);
        const a = await c.answer;
        const got = JSON.parse(await text(a.body));
        assert.deepEqual([a.status, got.url], [200, `/echo?i=${i}`]);
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    assert.ok(sockets.size <= 4 + 1, `${sockets.size} connections`); // one may have been closed by what went before
  },
  async 'refused without a token'() {
    const a = await ask('GET', '/echo', undefined, { authorization: '' });
    assert.equal(a.status, 401);
    assert.equal(JSON.parse(a.text).code, '900902');
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  const began = Date.now();
  const timer = setTimeout(() => { console.log(`FAIL ${name}: not within 60 s`); process.exit(1); }, 60_000);
  try {
    await run();
    console.log(`ok ${name} in ${Date.now() - began} ms`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.stack}`);
  }
  clearTimeout(timer);
}
session?.destroy();
agent?.destroy();
process.exit(failed ? 1 : 0);
