// What is shipped: its size, its types, the copy in the server's demo page, and the QR entry.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { qrSvg } from '../dist/qr.js';
import { bundle, EMBEDDED, embedded, REACT } from '../scripts/build.mjs';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const read = (path) => readFile(join(here, path), 'utf8');
/** Bytes as they go over the wire. */
const size = (text) => gzipSync(text, { level: 9 }).length;

test('minified and gzipped, the main entry is at most 10 kB and the account entry 4 kB', async (t) => {
  const sizes = {
    '@passerby/client': await bundle(),
    '@passerby/client/account': await bundle('account.ts'),
    '@passerby/client/react (without React)': await bundle('react.tsx', REACT),
    '@passerby/client/qr (with uqr)': await bundle('qr.ts'),
  };
  for (const [name, text] of Object.entries(sizes))
    t.diagnostic(`${name}: ${size(text)} bytes, ${text.length} before gzip`);
  assert.ok(size(sizes['@passerby/client']) <= 10_000);
  assert.ok(size(sizes['@passerby/client/account']) <= 4_000);
});

test('the build is the same each time, and the demo page carries it', async () => {
  for (const [name, entry] of Object.entries(EMBEDDED)) {
    const text = await bundle(entry);
    assert.equal(await bundle(entry), text);
    assert.equal(await read(`dist/${name}`), text);
    assert.ok(
      (await readFile(embedded(name), 'utf8')) === text,
      `the copy of ${name} in the demo page is old: run "npm run embed"`,
    );
  }
});

test('one run-time dependency, and none in the main entry', async () => {
  const { dependencies, exports } = JSON.parse(await read('package.json'));
  assert.deepEqual(Object.keys(dependencies), ['uqr']);
  assert.doesNotMatch(await read('dist/index.js'), /^import /m);
  assert.doesNotMatch(await read('dist/account.js'), /^import /m);
  assert.doesNotMatch(await read('dist/react.js'), /from "(?!react|\.\/account\.js")/);
  for (const { types, default: file } of Object.values(exports).filter((entry) => entry.types)) {
    await read(types);
    await read(file);
  }
});

test('the lock file names no registry', async () => {
  assert.doesNotMatch(await read('package-lock.json'), /"resolved"/);
});

test('an app in strict TypeScript compiles against the types, and mistakes do not', async () => {
  const folder = await mkdtemp(join(here, 'node_modules/.types-'));
  const app = `
import { createClient, PasserbyError, type State, type User } from '@passerby/client';
import { account, type AccountClient, type Kept, type SignedIn, type SigningIn } from '@passerby/client/account';
import { qrSvg } from '@passerby/client/qr';
import { PasserbyProvider, useAccount, useData, useGuest, useHandOff, usePasserby } from '@passerby/client/react';
const client = createClient({ clientId: 'a', baseUrl: 'https://id.example.com', apis: { 'https://api.example.com/': { audience: 'b', scope: 'c' } } });
export async function app(): Promise<string> {
  const guest: User = await client.guest({ data: { cart: [] }, entry: 'x' });
  const off: () => void = client.on('refused', ({ operations, error }) => console.log(operations.length, error.code));
  client.onChange((state: State) => console.log(state.status, state.mode, state.pending));
  const { data, version } = await client.data.apply([{ op: 'test', path: '/a', value: 1 }, { op: 'increment', path: '/a', by: 2 }]);
  const offer = await client.handOff.create({ mode: 'move' });
  const taking = await client.handOff.take(offer.code, { replace: true });
  const outcome = await client.recover('words');
  if (outcome.status === 'waiting') return outcome.ready_at;
  try { await client.fetch('https://api.example.com/cart', { method: 'POST', audience: 'b' }); } catch (error) { if (error instanceof PasserbyError && error.temporary) off(); }
  return qrSvg(offer.url, { label: taking.check }) + guest.id + version + String(data['a']) + outcome.recovery_code;
}
export async function becoming(me: AccountClient): Promise<string> {
  const { claim, verify } = await me.keep({ email: 'ada@example.org' }, { redirectUri: 'https://example.com/' });
  const kept: Kept = await verify({ code: '123456', password: 'x' });
  if (kept.outcome === 'merge_required') return (await me.merge(kept.merge_ticket)).receipt + kept.preview.conflicts.length;
  if (kept.outcome === 'added') return kept.identifier.value;
  const signed: SignedIn = await me.signIn({ email: 'ada@example.org', password: 'x' });
  const signing: SigningIn = await me.signIn({ phone: '+4915112345678' });
  const { preview, merge_ticket } = await me.preview((await signing.verify('123456')).merge_ticket ?? '');
  const { transfer, guest } = await me.undo((await me.merge(merge_ticket)).transfer.id);
  return claim.check + signed.user.kind + preview.policy + transfer.state + guest?.user.id + (await me.aside())?.user.id;
}
export function App() {
  const { status, start } = useGuest({ ensure: true });
  const [views = 0, data] = useData<number>('/views');
  const handOff = useHandOff();
  const { signedIn, user, keep } = useAccount();
  if (!signedIn) void keep({ username: user?.id ?? '' });
  usePasserby();
  return <PasserbyProvider client={client}><button onClick={() => { void start(); void data.increment('/views', views); void handOff.create(); }}>{status}</button></PasserbyProvider>;
}
// @ts-expect-error there is no such operation
void client.data.apply([{ op: 'multiply', path: '/a', value: 2 }]);
// @ts-expect-error a number is wanted
void client.data.increment('/a', '2');
// @ts-expect-error there is no such event
client.on('nothing', () => {});
// @ts-expect-error a function is not JSON
void client.data.set('/a', () => {});
// @ts-expect-error one of the three is wanted
void account(client).keep({ address: 'ada@example.org' });
// @ts-expect-error no code is sent to a user name
void account(client).signIn({ username: 'ada' });
// @ts-expect-error the inside of a client is nobody's
void client.core;
`;
  try {
    await writeFile(join(folder, 'app.tsx'), app);
    const paths = {
      '@passerby/client': [join(here, 'dist/index.d.ts')],
      '@passerby/client/*': [join(here, 'dist/*.d.ts')],
    };
    const compilerOptions = {
      target: 'es2022',
      module: 'esnext',
      moduleResolution: 'bundler',
      lib: ['es2023', 'dom'],
      strict: true,
      jsx: 'react-jsx',
      types: ['react'],
      noEmit: true,
      paths,
    };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['app.tsx'] }));
    execFileSync(process.execPath, [join(here, 'node_modules/typescript/bin/tsc'), '-p', folder], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
  } catch (error) {
    assert.fail(error.stdout || error);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a QR code: its finders, its quiet zone, and no markup of its label', () => {
  const svg = qrSvg('https://id.example.com/ui/hand-off#code=ABCD-EFGH', { label: '<b>"&' });
  const [, side] = /viewBox="0 0 (\d+) \1"/.exec(svg);
  const dark = Array.from({ length: side }, () => Array(Number(side)).fill(false));
  for (const [, x, y, width] of svg.matchAll(/M(\d+) (\d+)h(\d+)v1h-\d+z/g))
    dark[y].fill(true, Number(x), Number(x) + Number(width));
  const finder = ['1111111', '1000001', '1011101', '1011101', '1011101', '1000001', '1111111'];
  const square = (left, top) =>
    finder.map((_, y) =>
      dark[top + y]
        .slice(left, left + 7)
        .map(Number)
        .join(''),
    );
  for (const [left, top] of [
    [4, 4],
    [side - 11, 4],
    [4, side - 11],
  ])
    assert.deepEqual(square(left, top), finder);
  for (let edge = 0; edge < side; edge += 1)
    for (const rim of [0, 1, 2, 3]) assert.equal(dark[rim][edge] || dark[edge][rim], false);
  assert.match(svg, /aria-label="&#60;b&#62;&#34;&#38;"/);
});

test('it can be loaded and made where there is no browser', async () => {
  const script = `import('./dist/index.js').then(({ createClient }) => { const c = createClient({ clientId: 'a', baseUrl: 'https://id.test' }); console.log(c.state.status); c.close(); })`;
  assert.equal(execFileSync(process.execPath, ['-e', script], { cwd: here, encoding: 'utf8' }).trim(), 'loading');
});
