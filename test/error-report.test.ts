/**
 * Reports of thrown values: which errors a retry cannot fix, and which part of them may be shown anywhere.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { reportOf } from '../src/worker/error-report.ts';

const folder = mkdtempSync(join(tmpdir(), 'bosun-test-'));
after(() => rmSync(folder, { recursive: true }));

/** What a module of this source throws when it is loaded. */
async function thrownBy(name: string, source: string): Promise<unknown> {
  const file = join(folder, name);
  writeFileSync(join(folder, 'bad.json'), '{');
  writeFileSync(file, source);
  try {
    await import(pathToFileURL(file).href);
  } catch (error) {
    return error;
  }
  throw new Error(`${name} was loaded`);
}

describe('permanent errors', () => {
  for (const [name, source] of [
    ['syntax.mjs', 'export default {;'],
    ['syntax.cjs', 'module.exports = {;'],
    ['syntax.ts', 'const x: = 3;'],
    ['enum.ts', 'enum Unsupported { one }'],
    ['export.mjs', "import { nowhere } from 'node:path';"],
    ['package.mjs', "import 'no-such-package';"],
    ['package.cjs', "require('no-such-package');"],
    ['file.mjs', "import './nowhere.mjs';"],
    ['json.mjs', "import './some.json';"],
    ['bad-json.cjs', "require('./bad.json');"],
    ['bad-json.mjs', "import './bad.json' with { type: 'json' };"],
  ] as const)
    test(`an error that a retry cannot fix is permanent: ${name}, ${source}`, async () => {
      assert.equal(reportOf(await thrownBy(name, source)).isPermanent, true);
    });

  test('EADDRINUSE and EACCES are permanent errors, also as a cause', () => {
    for (const code of ['EADDRINUSE', 'EACCES']) {
      const error = Object.assign(new Error('no'), { code });
      assert.equal(reportOf(error).isPermanent, true);
      assert.equal(reportOf(new Error('the app', { cause: new Error('its server', { cause: error }) })).isPermanent, true);
    }
  });
});

describe('other errors', () => {
  for (const [name, source] of [
    ['throws.mjs', "throw new Error('no database');"],
    ['answer.mjs', "JSON.parse('{half');"],
    ['refused.mjs', "throw Object.assign(new Error('no'), { code: 'ECONNREFUSED' });"],
    ['missing-data.mjs', "import { readFileSync } from 'node:fs'; readFileSync('/nowhere/data.json');"],
  ] as const)
    test(`an error that a retry may fix is not permanent: ${name}, ${source}`, async () => {
      assert.equal(reportOf(await thrownBy(name, source)).isPermanent, false);
    });
});

test('the summary of an error has class, code, file and line of its innermost cause, and no text', async () => {
  const cause = await thrownBy(
    'place.mjs',
    "\nthrow Object.assign(new TypeError('postgres://u:p@h'), { code: 'ECONNREFUSED' });",
  );
  const { summary, message, stack } = reportOf(new Error('the app can not be loaded', { cause }));
  assert.deepEqual(summary, { class: 'TypeError', code: 'ECONNREFUSED', file: join(folder, 'place.mjs'), line: 2 });
  assert.equal(message, 'the app can not be loaded');
  assert.match(stack, /the app can not be loaded.*\ncaused by: TypeError: postgres:\/\/u:p@h\n/s);
});

test('a name or code that may be text of the app is not in the summary of its error', () => {
  const error = Object.assign(new Error('no'), { name: 'no route to postgres://u:p@h', code: 'see https://h/reset/TOKEN' });
  assert.deepEqual(Object.keys(reportOf(error).summary).sort(), ['class', 'file', 'line']);
  assert.equal(reportOf(error).summary.class, 'Error');
});

test('any thrown value has a report, also one whose properties throw', () => {
  const hostile = {
    get message() {
      throw new Error('a getter');
    },
    get stack() {
      throw new Error('another');
    },
    toString() {
      throw new Error('and this');
    },
  };
  const circular: { cause?: unknown } = new Error('round');
  circular.cause = circular;
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  for (const thrown of [
    undefined,
    null,
    0,
    'text',
    Symbol('s'),
    () => 1,
    {},
    hostile,
    circular,
    revoked.proxy,
    Object.create(null),
  ]) {
    const { message, stack, summary } = reportOf(thrown);
    assert.equal(typeof message, 'string');
    assert.equal(typeof stack, 'string');
    assert.equal(typeof summary.class, 'string');
  }
  assert.equal(reportOf('text').message, 'text');
});
