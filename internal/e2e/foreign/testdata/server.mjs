// A backend on Node's own servers. It prints its ports and answers by path.
import http from 'node:http';
import https from 'node:https';
import http2 from 'node:http2';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [certFile, keyFile] = process.argv.slice(2);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const late = new Map(); // what became of requests that were left open, by name

async function handle(req, res) {
  const url = new URL(req.url, 'http://localhost');
  const h1 = req.httpVersionMajor === 1;
  switch (url.pathname) {
    case '/chunks':
      res.setHeader('Content-Type', 'text/plain');
      for (let i = 0; i < 50; i++) {
        res.write(`chunk ${i};`.repeat(i + 1));
        if (i % 10 === 0) await sleep(5);
      }
      res.end();
      return;
    case '/trailers':
      if (h1) res.setHeader('Trailer', 'X-Digest');
      res.write('body ');
      await sleep(10);
      res.write('end');
      res.addTrailers({ 'X-Digest': 'sha-1=none' });
      res.end();
      return;
    case '/events': {
      res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
      const name = url.searchParams.get('name');
      late.set(name, 'open');
      res.on('close', () => late.set(name, 'closed'));
      // The next event is sent only when the client has asked for it elsewhere.
      res.write('id: 0\ndata: first\n\n');
      for (let i = 1; i < 5; i++) {
        while (late.get(name) !== `wants ${i}`) {
          if (late.get(name) === 'closed') return;
          await sleep(2);
        }
        res.write(`id: ${i}\ndata: event ${i}\n\n`);
      }
      while (late.get(name) !== 'closed') await sleep(5);
      return;
    }
    case '/wants':
      late.set(url.searchParams.get('name'), `wants ${url.searchParams.get('n')}`);
      res.end('noted');
      return;
    case '/state':
      res.end(String(late.get(url.searchParams.get('name'))));
      return;
    case '/early': // answers before the body has come, and reads no more of it
      res.writeHead(422, { 'Content-Type': 'text/plain', 'X-Early': 'yes' });
      res.end('no need to go on');
      return;
    case '/slow':
      await sleep(700);
      res.write('slowly ');
      await sleep(300);
      res.end('done');
      return;
    case '/hints': // answers that only announce the answer
      if (h1) {
        res.writeContinue();
        res.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
      }
      res.end('after hints');
      return;
    case '/cut': // promises more than it sends
      res.writeHead(200, { 'Content-Length': '1000' });
      res.write('only this');
      await sleep(20);
      (res.socket ?? res.stream).destroy();
      return;
    case '/empty':
      res.writeHead(204);
      res.end();
      return;
    case '/cookies':
      res.setHeader('Set-Cookie', ['a=1; Path=/', 'b=2; HttpOnly', 'c=3; Max-Age=1']);
      res.end('cookies');
      return;
    default: {
      const hash = createHash('sha256');
      let n = 0;
      for await (const piece of req) {
        hash.update(piece);
        n += piece.length;
      }
      res.setHeader('Content-Type', 'application/json');
      res.end(JSON.stringify({
        method: req.method, url: req.url, version: req.httpVersion, length: n, sha256: hash.digest('hex'),
        trailers: req.trailers, raw: req.rawHeaders.filter((_, i) => i % 2 === 0).map((s) => s.toLowerCase()), port: req.socket.remotePort,
      }));
    }
  }
}

const listener = (req, res) => handle(req, res).catch((e) => { res.destroy?.(e); });
const pair = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
const servers = [http.createServer(listener), https.createServer(pair, listener), http2.createSecureServer({ ...pair, allowHTTP1: true }, listener)];
await Promise.all(servers.map((s) => new Promise((done) => s.listen(0, '127.0.0.1', done))));
console.log(JSON.stringify(servers.map((s) => s.address().port)));
process.stdin.resume().on('end', () => process.exit(0)); // the test ends us by closing our input
