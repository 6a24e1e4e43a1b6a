// WebKitGTK by its WebDriver, on a screen that nobody sees: Debian's packages webkit2gtk-driver and xvfb.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

import { freePort } from './server.mjs';

/** A tab of a visitor. WebDriver looks at one tab at a time, so that each command says which. */
class Tab {
  #visitor;
  #handle;

  constructor(visitor, handle) {
    this.#visitor = visitor;
    this.#handle = handle;
  }

  /** Runs the function in the page, with arguments and an outcome that JSON can say; a promise is awaited. */
  async run(work, ...args) {
    const script = `
      const [args, done] = arguments;
      Promise.resolve().then(() => (${work})(...args)).then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await this.#command('POST', '/execute/async', { script, args: [args] });
    assert.equal(error, undefined);
    return value;
  }

  reload() {
    return this.#command('POST', '/refresh', {});
  }

  goto(url) {
    return this.#command('POST', '/url', { url });
  }

  close() {
    return this.#command('DELETE', '/window');
  }

  #command(...command) {
    return this.#visitor.inTurn(async () => {
      await this.#visitor.command('POST', '/window', { handle: this.#handle });
      return this.#visitor.command(...command);
    });
  }
}

/** A browser profile of its own. */
class Visitor {
  #driver;
  #path;
  #first;
  #turn = Promise.resolve();

  constructor(driver, path) {
    this.#driver = driver;
    this.#path = path;
  }

  command(method, path, body) {
    return this.#driver(method, this.#path + path, body);
  }

  /** One command after the other. */
  inTurn(work) {
    return (this.#turn = this.#turn.then(work, work));
  }

  async open(url) {
    const { handle } = await this.inTurn(async () => {
      // The tab that is there at first stays: with the last one, the session would end.
      this.#first ??= await this.command('GET', '/window');
      await this.command('POST', '/window', { handle: this.#first });
      return this.command('POST', '/window/new', { type: 'tab' });
    });
    const tab = new Tab(this, handle);
    await tab.goto(url);
    return tab;
  }

  async close() {
    await this.inTurn(() => this.command('DELETE', ''));
  }
}

/** Starts the screen and the driver. */
export async function launch() {
  const screen = spawn('Xvfb', ['-displayfd', '1', '-screen', '0', '1280x800x24', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [display] = await Promise.race([
    once(screen.stdout, 'data'),
    once(screen, 'exit').then(() => assert.fail('Xvfb did not start')),
  ]);
  const port = await freePort();
  const driver = spawn('WebKitWebDriver', [`--port=${port}`], {
    env: { ...process.env, DISPLAY: `:${String(display).trim()}` },
    stdio: 'ignore',
  });
  // Also when the tests end before their time.
  process.once('exit', () => [driver, screen].forEach((child) => child.kill()));
  const call = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  };
  for (let tries = 0; tries < 100 && !(await call('GET', '/status').catch(() => null)); tries += 1) await pause(100);
  let version;
  return {
    get version() {
      return version;
    },
    async visitor() {
      const { sessionId, capabilities } = await call('POST', '/session', { capabilities: {} });
      version = `${capabilities.browserName} ${capabilities.browserVersion}`;
      return new Visitor(call, `/session/${sessionId}`);
    },
    async close() {
      for (const child of [driver, screen]) {
        const ended = once(child, 'exit');
        child.kill();
        await ended;
      }
    },
  };
}
