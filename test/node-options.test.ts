/**
 * Options of Node.js: read as Node.js reads them, and each either holds or is refused with the reason.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { nodeOptions, splitNodeOptions } from '../src/parsers.ts';
import { judgeNodeOptions, NODE_OPTIONS } from '../src/primary/judged-options.ts';
import { heapOption, joinNodeOptions, takeHeapChoice } from '../src/resources/node-options.ts';

const judge = (
  environment: string,
  { commandLine = [] as string[], workers = '', maxHeaderBytes = undefined as string | undefined } = {},
) =>
  judgeNodeOptions(
    { environment: splitNodeOptions(environment), commandLine, workers: splitNodeOptions(workers) },
    maxHeaderBytes,
  );

describe('NODE_OPTIONS', () => {
  for (const [text, options] of [
    ['', []],
    ['  --a   --b=1 ', ['--a', '--b=1']],
    ['--require "./my path/a.cjs"', ['--require', './my path/a.cjs']],
    ['--title="say \\"hi\\" \\\\ twice"', ['--title=say "hi" \\ twice']],
    ['--a=\\b', ['--a=\\b']],
    ['""', ['']],
  ] as const)
    test(`${text} is split as by Node.js, and joined again`, () => {
      assert.deepEqual(splitNodeOptions(text), options);
      assert.deepEqual(splitNodeOptions(joinNodeOptions(options)).filter(Boolean), options.filter(Boolean));
    });

  test('a quote or an escape without its end is refused, as by Node.js', () => {
    assert.throws(() => splitNodeOptions('--title="a'), /a quote without its end/);
    assert.throws(() => splitNodeOptions('--title="a\\'), /an escape without a character/);
  });
});

describe('the heap', () => {
  const choose = (environment: string, commandLine: string[], workers: string) =>
    takeHeapChoice({ environment: splitNodeOptions(environment), commandLine, workers: splitNodeOptions(workers) });

  test('is that of the workers alone, else of the command line, else of NODE_OPTIONS, and the rest is passed on', () => {
    const all = choose('--a --max-old-space-size=1', ['--b', '--max_old_space_size=2'], '--c --max-heap-size=3');
    assert.deepEqual(all, { choice: { sizeMb: 3, isWhole: true }, environment: '--a', commandLine: ['--b', '--c'] });
    assert.deepEqual(choose('--max-old-space-size=1', ['--max-old-space-size=2'], '').choice, { sizeMb: 2 });
    assert.deepEqual(choose('--max-old-space-size-percentage=50', [], '').choice, { percent: 50 });
  });

  test('is given as the option that the operator has given', () => {
    assert.equal(heapOption(100, { sizeMb: 100 }), '--max-old-space-size=100');
    assert.equal(heapOption(100, { sizeMb: 100, isWhole: true }), '--max-heap-size=100');
  });
});

describe('an option that the kit sets by itself', () => {
  for (const [option, why] of [
    ['--inspect-brk', /the primary waits for a debugger: give it in WORKER_NODE_OPTIONS/],
    ['--inspect_wait=0', /the primary waits/],
    ['--experimental-config-file=a.json', /does not see the options of a configuration file/],
    ['--experimental-default-config-file', /does not see the options of a configuration file/],
    ['--heapsnapshot-signal=SIGUSR2', /SIGUSR2 is the kit’s own/],
    ['--report-signal SIGHUP', /SIGHUP is the kit’s own/],
    ['--report-on-signal', /another --report-signal/],
  ] as const)
    test(`${option} is refused with the reason`, () => {
      const { refused, warnings } = judge(option);
      assert.match(refused.join(), why);
      assert.deepEqual(warnings, []);
    });

  for (const [option, warning] of [
    ['--inspect', /debugger’s port/],
    ['--inspect=0.0.0.0:9229', /debugger’s port/],
    ['--inspect-port=0', /debugger’s port/],
    ['--env-file=.env.local', /a rolling restart does not read it again/],
    ['--abort-on-uncaught-exception', /its other requests/],
    ['--preserve-symlinks', /real path/],
  ] as const)
    test(`${option} holds, with a warning`, () => {
      const { refused, warnings } = judge('', { commandLine: [option] });
      assert.deepEqual(refused, []);
      assert.match(warnings.join(), warning);
      assert.match(warnings.join(), /\(command line\)/);
    });

  for (const option of [
    '--import ./a.mjs',
    '-r ./a.cjs',
    '--title=x',
    '--enable-source-maps',
    '--max-semi-space-size=8',
    '--report-on-signal --report-signal=SIGPROF',
  ])
    test(`${option} holds`, () => {
      assert.deepEqual(judge(option), { refused: [], warnings: [], maxHeaderSize: undefined });
    });

  test('--inspect-brk for the workers alone holds, with a warning', () => {
    const { refused, warnings } = judge('', { workers: '--inspect-brk' });
    assert.deepEqual(refused, []);
    assert.match(warnings.join(), /WORKER_START_TIMEOUT_MS/);
  });

  test('--max-http-header-size is MAX_HEADER_BYTES, and refused where that is another', () => {
    for (const option of ['--max-http-header-size=32768', '--max_http_header_size 32768']) {
      assert.equal(judge(option).maxHeaderSize, '32768');
      assert.deepEqual(judge(option, { maxHeaderBytes: '32768' }).refused, []);
      assert.match(judge(option, { maxHeaderBytes: '16384' }).refused.join(), /must be the same, got 32768 and 16384/);
    }
  });

  test('docs/node-options.md has the same table', () => {
    const docs = readFileSync(join(import.meta.dirname, '..', 'docs', 'node-options.md'), 'utf8');
    for (const [name, { effect }] of Object.entries(NODE_OPTIONS))
      assert.ok(docs.includes(`| \`--${name}\` | ${effect} |`), `--${name}`);
  });
});

test('WORKER_NODE_OPTIONS takes what Node.js takes in NODE_OPTIONS, and nothing else', () => {
  assert.deepEqual(nodeOptions('--import "./a b.mjs" --max_old_space_size=100'), [
    '--import',
    './a b.mjs',
    '--max_old_space_size=100',
  ]);
  for (const wrong of ['--no-such-option', '--eval=1', '"'])
    assert.throws(() => nodeOptions(wrong), /options (of Node\.js, and has|that Node\.js takes)/);
});
