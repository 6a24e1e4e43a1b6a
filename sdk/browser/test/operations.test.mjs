// What a change shows before the server has answered: the server's own table of operations, on the same data.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { build } from 'esbuild';

const { outputFiles } = await build({
  entryPoints: [new URL('../src/operations.ts', import.meta.url).pathname],
  bundle: true,
  format: 'esm',
  write: false,
});
const { view, find, same, checked } = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);

const DATA = { i: 5, f: 1.5, s: 'x', l: [1, 'a', { k: [2] }], o: { n: 7 }, z: null };
/** The operation does not stand on what is there: nothing is shown of it. */
const MISFIT = Symbol('misfit');

const TABLE = [
  ['set', '/x', 9, 9],
  ['set', '/x/y/0/z', { a: 1 }, { a: 1 }],
  ['set', '/i', null, null],
  ['set', '/l', 1, 1],
  ['set', '/l/0', 9, 9],
  ['set', '/l/2/k/0', 9, 9],
  ['set', '/l/3', 9, MISFIT],
  ['set', '/l/-/a', 9, MISFIT],
  ['set', '/l/7/a', 9, MISFIT],
  ['set', '/l/k', 9, MISFIT],
  ['set', '/l/01', 9, MISFIT],
  ['set', '/i/a', 9, MISFIT],
  ['set', '/s/a/b', 9, MISFIT],
  ['set', '/z/a', 9, MISFIT],
  ['increment', '/x', 3, 3],
  ['increment', '/x/y', 1.25, 1.25],
  ['increment', '/i', -6, -1],
  ['increment', '/i', 0.5, 5.5],
  ['increment', '/f', 1, 2.5],
  ['increment', '/l/0', 1, 2],
  ['increment', '/l/-', 1, MISFIT],
  ['increment', '/l/9', 1, MISFIT],
  ['increment', '/s', 1, MISFIT],
  ['increment', '/z', 1, MISFIT],
  ['increment', '/l', 1, MISFIT],
  ['increment', '/i/a', 1, MISFIT],
  ['min', '/x', 3, 3],
  ['min', '/i', 3, 3],
  ['min', '/i', 9, 5],
  ['min', '/l/0', -1, -1],
  ['min', '/s', 1, MISFIT],
  ['min', '/l/3', 1, MISFIT],
  ['max', '/x/y', 3, 3],
  ['max', '/i', 3, 5],
  ['max', '/f', 2, 2],
  ['max', '/o', 1, MISFIT],
  ['max', '/s/q', 1, MISFIT],
  ['add_to_set', '/x', 1, [1]],
  ['add_to_set', '/x/y', [1], [[1]]],
  ['add_to_set', '/l', 1, [1, 'a', { k: [2] }]],
  ['add_to_set', '/l', { k: [2] }, [1, 'a', { k: [2] }]],
  ['add_to_set', '/l/2/k', 3, [2, 3]],
  ['add_to_set', '/o', 1, MISFIT],
  ['add_to_set', '/z', 1, MISFIT],
  ['add_to_set', '/l/-', 1, MISFIT],
  ['append', '/x', null, [null]],
  ['append', '/l', 1, [1, 'a', { k: [2] }, 1]],
  ['append', '/l/2/k', [], [2, []]],
  ['append', '/s', 'y', MISFIT],
  ['append', '/i/a', 1, MISFIT],
  ['append', '/l/5', 1, MISFIT],
  ['remove_from_set', '/l', 1, ['a', { k: [2] }]],
  ['remove_from_set', '/l', { k: [2] }, [1, 'a']],
  ['remove_from_set', '/l', 7, [1, 'a', { k: [2] }]],
  ['remove_from_set', '/o', 1, MISFIT],
  ['remove_from_set', '/s', 1, MISFIT],
  ['remove_from_set', '/i/a', 1, MISFIT],
  ['remove_from_set', '/nothing', 1, undefined],
  ['test', '/i', 5, 5],
  ['test', '/o', { n: 7 }, { n: 7 }],
  ['test', '/l/2', { k: [2] }, { k: [2] }],
  ['test', '/z', null, null],
  ['test', '/i', 6, MISFIT],
  ['test', '/i', '5', MISFIT],
  ['test', '/x', 0, MISFIT],
  ['test', '/l/9', 0, MISFIT],
  ['test', '', {}, MISFIT],
  ['unset', '/i', undefined, undefined],
  ['unset', '/l/0', undefined, 'a'],
  ['unset', '/nothing/here', undefined, undefined],
  ['unset', '/i/a', undefined, MISFIT],
];

test('the server’s table of operations', () => {
  for (const [op, path, operand, expected] of TABLE) {
    const operation =
      op === 'unset' ? { op, path } : op === 'increment' ? { op, path, by: operand } : { op, path, value: operand };
    // A harmless first operation shows that the batch goes together.
    const out = view(DATA, [[{ op: 'set', path: '/first', value: 1 }, operation]]);
    const name = JSON.stringify(operation);
    if (expected === MISFIT) assert.deepEqual(out, DATA, name);
    else {
      assert.equal(out.first, 1, name);
      assert.deepEqual(find(out, path), expected, name);
    }
  }
  assert.deepEqual(find(view(DATA, [[{ op: 'set', path: '/l/-', value: 9 }]]), '/l/3'), 9);
  assert.deepEqual(view({ 'a/b': { '~': 1 } }, [[{ op: 'increment', path: '/a~1b/~0', by: 1 }]]), {
    'a/b': { '~': 2 },
  });
});

test('what is shown shares nothing with what it was made of', () => {
  const data = { a: { b: 1 } };
  const batch = [{ op: 'set', path: '/list', value: [] }];
  const first = view(data, [
    batch,
    [{ op: 'append', path: '/list', value: 1 }],
    [{ op: 'set', path: '/a/b', value: 2 }],
  ]);
  assert.deepEqual(first, { a: { b: 2 }, list: [1] });
  assert.deepEqual(data, { a: { b: 1 } });
  assert.deepEqual(batch[0].value, []);
  assert.deepEqual(view(data, [batch]), { a: { b: 1 }, list: [] });
});

test('equal as JSON, and not otherwise', () => {
  assert.ok(same({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 }));
  for (const [a, b] of [
    [[], {}],
    [{ a: undefined }, {}],
    [{ a: 1 }, { b: 1 }],
    [[1], [1, 2]],
    ['1', 1],
    [null, {}],
    [0, false],
  ]) {
    assert.equal(same(a, b), false, JSON.stringify([a, b]));
  }
});

test('line_37 reserved names lead nowhere', () => {
  for (const name of ['__proto__', 'constructor', 'prototype']) {
    assert.throws(() => checked([{ op: 'set', path: `/${name}/x`, value: 1 }]), { code: 'invalid_operation' });
    assert.throws(() => find({}, `/a/${name}`), { code: 'invalid_operation' });
  }
  assert.equal(find({}, '/toString'), undefined);
  assert.equal(find([1], '/length'), undefined);
});
