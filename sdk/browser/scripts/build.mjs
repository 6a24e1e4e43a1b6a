// Builds dist/: the entries as modules with their types, and single files for pages without a bundler.
//   --embed   writes the minified main and account entries into the server's demo page, too

import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { minify } from 'terser';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(here, 'dist');
/** What the demo page of the server carries: committed, so that a build of the server needs no npm. */
const demo = join(here, '../../crates/passerby-pages/assets/demo');
export const EMBEDDED = { 'passerby.js': 'index.ts', 'passerby-account.js': 'account.ts' };
export const embedded = (name) => join(demo, name);

const { version } = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'));
const common = {
  absWorkingDir: here,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  logLevel: 'warning',
};

/** What the hooks are not bundled with. */
export const REACT = ['react', 'react/jsx-runtime', '*/account.js'];

/** What is bundled with the QR entry asks to be named. */
const NOTICES = { 'qr.ts': '; with uqr, MIT, (c) Project Nayuki, (c) 2023 Anthony Fu' };

/** An entry as one minified file: the same text on every machine. */
export async function bundle(entry = 'index.ts', external = []) {
  const { outputFiles } = await build({
    ...common,
    jsx: 'automatic',
    entryPoints: [`src/${entry}`],
    external,
    minify: true,
    write: false,
  });
  // A few percent smaller than by esbuild alone.
  const { code } = await minify(outputFiles[0].text, {
    module: true,
    // No getter of ours does anything but look.
    compress: { passes: 3, ecma: 2020, pure_getters: true },
    format: { comments: false },
  });
  return `/* @passerby/client ${version}, MIT OR Apache-2.0${NOTICES[entry] ?? ''} */\n${code}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist, { recursive: true });
  // The main entry is shared by none of the others at run time: they take the client they are given.
  for (const [entry, external] of [
    ['index.ts', []],
    ['account.ts', []],
    ['qr.ts', ['uqr']],
    ['react.tsx', REACT],
  ]) {
    await build({
      ...common,
      jsx: 'automatic',
      entryPoints: [`src/${entry}`],
      external,
      outdir: dist,
      sourcemap: true,
    });
  }
  execFileSync(process.execPath, [join(here, 'node_modules/typescript/bin/tsc'), '--emitDeclarationOnly'], {
    cwd: here,
    stdio: 'inherit',
  });
  await writeFile(join(dist, 'passerby-qr.js'), await bundle('qr.ts'));
  for (const [name, entry] of Object.entries(EMBEDDED)) {
    const text = await bundle(entry);
    await writeFile(join(dist, name), text);
    if (process.argv.includes('--embed')) await writeFile(embedded(name), text);
  }
}
