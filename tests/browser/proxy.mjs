// What stands between a page and the server, and fails as lines and proxies do. And the page itself.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, createServer, request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const PAGE = new URL('page/', import.meta.url);
/** The client as the demo page of the server carries it; `PASSERBY_JS` names another build. */
const CLIENT =
  process.env.PASSERBY_JS ??
  fileURLToPath(new URL('../../crates/passerby-pages/assets/demo/passerby.js', import.meta.url));

async function listen(server, port = 0) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}

/** Serves the test page from an origin of its own, as most apps have one. Gives the server, with its `origin`. */
export async function servePage() {
  const script = 'text/javascript';
  const files = {
    '/': ['text/html', new URL('index.html', PAGE)],
    '/before.js': [script, new URL('before.js', PAGE)],
    '/page.js': [script, new URL('page.js', PAGE)],
    '/passerby.js': [script, CLIENT],
  };
  const server = createServer(async (asked, answer) => {
    const [type, file] = files[new URL(asked.url, 'http://page').pathname] ?? [];
    if (!file) return answer.writeHead(404).end();
    answer.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(await readFile(file));
  });
  server.origin = `http://127.0.0.1:${await listen(server)}`;
  return server;
}

/**
 * A proxy on a port of its own. It passes everything on, but for what {@link fail} says, and keeps a record of what the
 * server answered (`passed`), whether or not that reached the page.
 */
export class Proxy {
  passed = [];
  #rules = [];
  #server;
  #agent = new Agent({ keepAlive: false });

  async start() {
    this.#server = createServer((asked, answer) => this.#serve(asked, answer).catch(() => answer.destroy()));
    this.port = await listen(this.#server, this.port);
    this.origin = `http://127.0.0.1:${this.port}`;
  }

  /** Nothing listens here any more, and what is open is cut. */
  async refuse() {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  get listening() {
    return this.#server.listening;
  }

  /**
   * Requests `what` (`POST /v1/guests`, or part of it) fail from now on, so many `times`. How, before the server has
   * heard of it:
   *
   * - `drop`: the line drops
   * - `{ status, headers, body }`: somebody else answers
   *
   * or when it has done what it was asked; its refusals pass:
   *
   * - `lose`: the line drops before anything of the answer arrives
   * - `cut`: it drops when half of the answer's body has arrived
   * - `hang`: nothing of the answer ever arrives
   * - a function, awaited before the answer arrives; it may name one of these three
   *
   * Gives the rule: its `hits` say how often it came to that, and `end()` ends it.
   */
  fail(what, how, times = Infinity) {
    const rule = { what, how, times, hits: 0, end: () => (rule.times = 0) };
    this.#rules.unshift(rule);
    return rule;
  }

  /** Everything is passed on again, and the record is empty. */
  reset() {
    this.#rules = [];
    this.passed = [];
  }

  /** How often the server has answered so, by method and path and, with `more`, by something in the answer. */
  count(what, more = () => true) {
    return this.passed.filter((one) => one.what === what && more(one)).length;
  }

  async #serve(asked, answer) {
    const body = await buffer(asked);
    const what = `${asked.method} ${asked.url}`;
    // Whether a page may ask at all is a question that browsers remember the answer to, so that it is left alone.
    const rule = asked.method !== 'OPTIONS' && this.#rules.find((one) => one.hits < one.times && what.includes(one.what));
    if (rule && (rule.how === 'drop' || rule.how.status)) {
      rule.hits += 1;
      return rule.how === 'drop' ? answer.destroy() : this.#say(asked, answer, rule.how);
    }
    const got = await this.#pass(asked, body, what);
    let how;
    if (rule && got.status < 300) {
      rule.hits += 1;
      how = typeof rule.how === 'function' ? await rule.how(got) : rule.how;
    }
    if (how === 'hang') return;
    if (how === 'lose') return answer.destroy();
    answer.writeHead(got.status, got.headers);
    if (how !== 'cut') return answer.end(got.body);
    answer.write(got.body.subarray(0, got.body.length / 2), () => answer.destroy());
  }

  #say(asked, answer, { status, headers, body }) {
    const cors = {
      'Access-Control-Allow-Origin': asked.headers.origin ?? '*',
      'Access-Control-Allow-Credentials': 'true',
      'Access-Control-Expose-Headers': 'Retry-After, Date',
    };
    answer.writeHead(status, { ...cors, ...headers }).end(body);
  }

  async #pass({ method, url, headers }, body, what) {
    const passing = request({ host: '127.0.0.1', port: this.target, method, path: url, headers, agent: this.#agent });
    passing.end(body);
    const [answer] = await once(passing, 'response');
    const content = await buffer(answer);
    const got = { what, status: answer.statusCode, headers: answer.headers, body: content };
    try {
      got.json = JSON.parse(content);
    } catch {
      // Not everything is.
    }
    this.passed.push(got);
    return got;
  }
}
