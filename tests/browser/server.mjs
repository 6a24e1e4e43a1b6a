// Starts and stops the real program, for tests.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** The key of the built-in development settings. */
export const API_KEY = 'passerby-development-api-key-0123456789';

/** A port that nobody listens on. */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** A server on a port of its own whose database lives in `folder`; it can be stopped and started again on both. */
export class Server {
  #binary = process.env.PASSERBY_BIN;
  #folder;
  #env;
  #child = null;
  #said = '';

  /** A `passerby.toml` in the folder is its configuration; `env` is added to the environment. */
  constructor(folder, env = {}) {
    assert.ok(this.#binary, 'PASSERBY_BIN must name the built program');
    this.#folder = folder;
    this.#env = env;
  }

  /** Gives back when the server is ready; does nothing where it runs already. */
  async start() {
    if (this.#child?.exitCode === null) return;
    this.port ??= await freePort();
    this.origin = `http://127.0.0.1:${this.port}`;
    const listen = `127.0.0.1:${this.port}`;
    this.#child = spawn(this.#binary, ['serve', '--listen', listen, '--database', 'sqlite:demo.db'], {
      cwd: this.#folder,
      env: { ...process.env, PASSERBY_ISSUER: this.origin, ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on('data', (text) => (this.#said += text));
    for (let tries = 0; tries < 300; tries += 1) {
      if (this.#child.exitCode !== null) break;
      const answer = await fetch(`${this.origin}/health/ready`).catch(() => null);
      if (answer?.ok) return;
      await pause(100);
    }
    await this.stop();
    assert.fail(`the server did not become ready; it said:\n${this.#said}`);
  }

  /** Asks it to end, as an operator's service manager does, and waits until it has. */
  stop() {
    return this.#end('SIGTERM');
  }

  /** Ends it between two instructions, as a power cut does. */
  kill() {
    return this.#end('SIGKILL');
  }

  async #end(signal) {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}

/** The cart of examples/cart on `port`, for the tokens of `issuer`. */
export class Cart {
  #binary = process.env.CART_BIN;
  #issuer;
  #child = null;

  constructor(port, issuer) {
    assert.ok(this.#binary, 'CART_BIN must name the built program');
    this.#issuer = issuer;
    this.origin = `http://127.0.0.1:${port}`;
    this.listen = `127.0.0.1:${port}`;
  }

  async start() {
    this.#child = spawn(this.#binary, ['--listen', this.listen, '--issuer', this.#issuer], {
      env: { ...process.env, CART_EPOCH_KEY: API_KEY },
      stdio: 'ignore',
    });
    for (let tries = 0; tries < 300 && this.#child.exitCode === null; tries += 1) {
      const answer = await fetch(`${this.origin}/health`).catch(() => null);
      if (answer?.ok) return;
      await pause(100);
    }
    assert.fail('the cart did not become ready');
  }

  async stop() {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }
}
