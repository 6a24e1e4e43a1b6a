// What a change does to the data, so that it shows before the server has answered. The server's rules in short: where
// they are stricter (sizes, depths, 64-bit numbers), its refusal takes the change back.

import { problem } from './error.js';
import type { Data, Json, Operation } from './types.js';

const RESERVED = ['__proto__', 'constructor', 'prototype'];

type Container = Record<string, Json> & Json[];

/** The steps of a JSON pointer (RFC 6901). Throws `invalid_operation` for what is none. */
export function steps(path: string): string[] {
  const names = path.split('/').map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
  if (names.shift() !== '' || names.some((name) => RESERVED.includes(name))) {
    throw problem('invalid_operation', path);
  }
  return names;
}

/** Throws what no server could make sense of, and gives what JSON makes of the rest. */
export function checked(operations: Operation[]): Operation[] {
  for (const operation of operations) {
    const names = steps(operation.path);
    const operand = operation.op === 'unset' ? 0 : operation.op === 'increment' ? operation.by : operation.value;
    const numeric = /^(increment|min|max)$/.test(operation.op);
    if (operand === undefined || (numeric && !Number.isFinite(operand)) || (!names.length && operation.op !== 'test')) {
      throw problem('invalid_operation', JSON.stringify(operation));
    }
  }
  return JSON.parse(JSON.stringify(operations));
}

const isContainer = (value: unknown): value is Container => typeof value === 'object' && value !== null;

function child(value: Json | undefined, name: string): Json | undefined {
  // `-` and what is no index are not there, as the length of a list is not.
  if (Array.isArray(value)) return /^(0|[1-9]\d*)$/.test(name) ? value[Number(name)] : undefined;
  return isContainer(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

/** The value at a path; undefined when there is none. */
export function find(data: Json | undefined, path: string): Json | undefined {
  return steps(path).reduce(child, data);
}

/** Equal as JSON: the order of members does not count. */
export function same(a: Json | undefined, b: Json | undefined): boolean {
  if (!isContainer(a) || !isContainer(b)) return a === b;
  const names = Object.keys(a);
  return (
    Array.isArray(a) === Array.isArray(b) &&
    names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && same(a[name], b[name]))
  );
}

/** It does not stand on what is there. */
function misfit(): never {
  throw Error();
}

function run(root: Data, operation: Operation): void {
  const { op, path } = operation;
  if (op === 'test') {
    return same(find(root, path) ?? null, operation.value) ? undefined : misfit();
  }
  const names = steps(path);
  const last = names.pop()!;
  let at = root as Container;
  const enter = (name: string) => {
    if (!isContainer(at) || (Array.isArray(at) && !/^(0|[1-9]\d*|-)$/.test(name))) misfit();
  };
  for (const name of names) {
    enter(name);
    let next = child(at, name);
    if (next === undefined) {
      if (op === 'unset' || op === 'remove_from_set') return;
      if (Array.isArray(at)) misfit();
      next = (at as Data)[name] = {};
    }
    at = next as Container;
  }
  enter(last);
  const list = Array.isArray(at);
  const old = child(at, last);
  if (old === undefined && (op === 'unset' || op === 'remove_from_set')) return;
  if (op === 'unset') {
    if (list) at.splice(Number(last), 1);
    else delete at[last];
    return;
  }
  if (list && old === undefined && !(op === 'set' && last === '-')) misfit();
  const put = (value: Json) => {
    if (last === '-' && list) at.push(value);
    else at[last] = value;
  };
  if (op === 'set') return put(operation.value);
  if (op === 'increment' || op === 'min' || op === 'max') {
    if (typeof (old ?? 0) !== 'number' || old === null) misfit();
    const number = old as number | undefined;
    if (op === 'increment') return put((number ?? 0) + operation.by);
    return put(number === undefined ? operation.value : Math[op](number, operation.value));
  }
  const items = old === undefined ? [] : old;
  if (!Array.isArray(items)) misfit();
  const { value } = operation;
  if (op === 'remove_from_set') put(items.filter((item) => !same(item, value)));
  else put(op === 'append' || !items.some((item) => same(item, value)) ? [...items, value] : items);
}

/**
 * The data with each batch applied in its order. A batch that does not fit is passed over as a whole: another device
 * may have changed what it stands on, and only the server knows.
 */
export function view(data: Data, batches: Operation[][]): Data {
  let shown = structuredClone(data);
  for (const batch of batches) {
    const before = batch.length > 1 ? structuredClone(shown) : shown;
    try {
      // Values are copied, so that no later change reaches into a batch.
      for (const operation of structuredClone(batch)) run(shown, operation);
    } catch {
      shown = before;
    }
  }
  return shown;
}
