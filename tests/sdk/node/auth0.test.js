// Auth0's SDKs speak https only. The certificate is made here, and Node takes a further authority only at its start:
// so the suite runs in a process of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { exportJWK, exportPKCS8, generateKeyPair } from 'jose';

import { API, start } from './server.js';

test('the suite passes', async () => {
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), alg: 'RS256', use: 'sig' }] };
  const server = await start({
    tls: true,
    extra: (folder) => {
      writeFileSync(join(folder, 'jwks.json'), JSON.stringify(jwks));
      return `[[tenants.clients]]\nid = "demo-key"\ntype = "web"\njwks_file = ${JSON.stringify(join(folder, 'jwks.json'))}\naudiences = ["${API}"]\n`;
    },
  });
  try {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const suite = fileURLToPath(new URL('./auth0/suite.js', import.meta.url));
    const child = spawn(process.execPath, ['--test', suite], {
      env: {
        ...env,
        NODE_EXTRA_CA_CERTS: server.certificate,
        AUTH0_DOMAIN: new URL(server.origin).host,
        CLIENT_KEY: await exportPKCS8(privateKey),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let told = '';
    child.stdout.on('data', (text) => (told += text));
    const code = await new Promise((done) => child.once('close', done));
    assert.equal(code, 0, told);
  } finally {
    await server.stop();
  }
});
