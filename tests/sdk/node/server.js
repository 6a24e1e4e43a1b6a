// Starts the real binary on a free port with an empty database, over http or https.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname;

export const API = 'https://api.example.com';
export const WEB_SECRET = 'demo-web-secret-0123456789abcdef';
export const ROOT_KEY = 'acceptance-root-key-0123456789abcdef0123456789';

function freePort() {
  return new Promise((done, fail) => {
    const server = createServer().once('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

function certificate(folder) {
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost',
      '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert],
    { stdio: 'ignore' },
  );
  return { key, cert };
}

function isReady(origin, ca) {
  const get = ca ? httpsGet : httpGet;
  return new Promise((done) => {
    get(`${origin}/health/ready`, { ca, agent: false }, (response) => {
      response.resume();
      done(response.statusCode === 200);
    }).once('error', () => done(false));
  });
}

/**
 * @param {{ tls?: boolean, extra?: (folder: string) => string }} options `extra` gives text to append to the configuration.
 */
export async function start({ tls = false, extra } = {}) {
  const binary = process.env.PASSERBY_BIN;
  if (!binary) throw new Error('PASSERBY_BIN must name the binary');
  const folder = mkdtempSync(join(tmpdir(), 'passerby-sdk-'));
  const port = await freePort();
  const pair = tls ? certificate(folder) : undefined;
  // Auth0's issuers end with a slash
  const origin = tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
  const issuer = tls ? `${origin}/` : origin;
  const base = readFileSync(process.env.PASSERBY_CONFIG ?? join(here, '..', 'passerby.toml'), 'utf8');
  const top = pair ? `tls = { certificate = ${JSON.stringify(pair.cert)}, key = ${JSON.stringify(pair.key)} }\n` : '';
  const config = join(folder, 'passerby.toml');
  writeFileSync(config, `${top}${base}\n${extra?.(folder) ?? ''}`);

  let log = '';
  const child = spawn(
    resolve(binary),
    ['serve', '--config', config, '--listen', `127.0.0.1:${port}`, '--issuer', issuer, '--database', `sqlite:${join(folder, 'p.db')}`],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  child.stdout.on('data', (text) => (log += text));
  child.stderr.on('data', (text) => (log += text));
  const ended = new Promise((done) => child.once('close', done));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };

  const ca = pair && readFileSync(pair.cert);
  const until = Date.now() + 30_000;
  while (!(await isReady(origin, ca))) {
    if (child.exitCode !== null || Date.now() > until) {
      await stop();
      throw new Error(`the server did not become ready:\n${log}`);
    }
    await wait(50);
  }
  return { origin, issuer, folder, certificate: pair?.cert, stop };
}

/** A guest by the plain way in. */
export async function anonymous(origin, body) {
  const response = await fetch(`${origin}/anonymous/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

/** A guest by the native API. */
export async function guest(origin, body) {
  const response = await fetch(`${origin}/v1/guests`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}
