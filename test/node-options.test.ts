/**
 * Node.js options are parsed as Node.js parses them. Each one applies or is refused with the reason.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { nodeOptions, splitNodeOptions } from '../src/config/parse.ts';
import { heapOptions, joinNodeOptions, judgeNodeOptions, NODE_OPTIONS, takeHeapChoice } from '../src/resources/node-options.ts';

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
    test(`${text} is split as Node.js splits it, and joined again`, () => {
      assert.deepEqual(splitNodeOptions(text), options);
      assert.deepEqual(splitNodeOptions(joinNodeOptions(options)).filter(Boolean), options.filter(Boolean));
    });

  test('an unterminated quote or escape is refused, as by Node.js', () => {
    assert.throws(() => splitNodeOptions('--title="a'), /an unterminated quote/);
    assert.throws(() => splitNodeOptions('--title="a\\'), /a trailing backslash/);
  });
});

describe('the heap size', () => {
  const choose = (environment: string, commandLine: string[], workers: string) =>
    takeHeapChoice({ environment: splitNodeOptions(environment), commandLine, workers: splitNodeOptions(workers) });

  test('the heap size comes from WORKER_NODE_OPTIONS, else the command line, else NODE_OPTIONS; other options are passed on', () => {
    const all = choose('--a --max-old-space-size=1', ['--b', '--max_old_space_size=2'], '--c --max-heap-size=3');
    assert.deepEqual(all, {
      choice: { sizeMb: 3, isWhole: true, place: 'workers' },
      environment: '--a',
      commandLine: ['--b', '--c'],
    });
    assert.deepEqual(choose('--max-old-space-size=1', ['--max-old-space-size=2'], '').choice, {
      sizeMb: 2,
      place: 'commandLine',
    });
    assert.deepEqual(choose('--max-old-space-size-percentage=50', [], '').choice, { percent: 50, place: 'environment' });
  });

  test('the heap size is passed on with the option that the operator used', () => {
    const heap = { heapPerWorkerMb: 100, semiSpaceMb: null };
    assert.deepEqual(heapOptions(heap, { sizeMb: 100 }), ['--max-old-space-size=100']);
    assert.deepEqual(heapOptions(heap, { sizeMb: 100, isWhole: true }), ['--max-heap-size=100']);
  });

  test('the semi-space goes to the workers unless an option has set it, which then stays where it is', () => {
    const heap = { heapPerWorkerMb: 100, semiSpaceMb: 8 };
    assert.deepEqual(heapOptions(heap, {}), ['--max-old-space-size=100', '--max-semi-space-size=8']);
    assert.deepEqual(heapOptions(heap, { semiSpaceMb: 8, semiSpacePlace: 'workers' }), ['--max-old-space-size=100']);
    assert.deepEqual(heapOptions({ heapPerWorkerMb: null, semiSpaceMb: null }, {}), []);
  });

  for (const [environment, commandLine, workers, semiSpaceMb, semiSpacePlace] of [
    ['--max-semi-space-size=16', [], '', 16, 'environment'],
    ['--max_semi_space_size=6', [], '', 8, 'environment'],
    ['', ['-max_semi-space_size=1'], '', 1, 'commandLine'],
    ['--max-semi-space-size=4', ['--max-semi-space-size=8'], '', 8, 'commandLine'],
    ['--max-semi-space-size=4', ['--max-semi-space-size=8'], '--max-semi-space-size=32', 32, 'workers'],
    ['', [], '--semi-space-growth-factor=2 --min-semi-space-size=1', undefined, undefined],
    ['--max-semi-space-size=0', [], '', undefined, undefined],
  ] as const)
    test(`the semi-space of NODE_OPTIONS "${environment}", command line "${commandLine}", WORKER_NODE_OPTIONS "${workers}" is ${semiSpaceMb}`, () => {
      const { choice, ...options } = choose(environment, [...commandLine], workers);
      assert.deepEqual(choice, semiSpaceMb === undefined ? {} : { semiSpaceMb, semiSpacePlace });
      assert.deepEqual(options, {
        environment,
        commandLine: [...commandLine, ...splitNodeOptions(workers)],
      });
    });
});

describe('an option that affects what the kit sets', () => {
  for (const [option, why] of [
    ['--inspect-brk', /makes the primary wait for a debugger; set it in WORKER_NODE_OPTIONS/],
    ['--inspect_wait=0', /the primary wait/],
    ['--experimental-config-file=a.json', /cannot read the options of a configuration file/],
    ['--experimental-default-config-file', /cannot read the options of a configuration file/],
    ['--heapsnapshot-signal=SIGUSR2', /the kit uses SIGUSR2/],
    ['--report-signal SIGHUP', /the kit uses SIGHUP/],
    ['--watch', /would start another one, endlessly/],
    ['--watch-path=src', /endlessly/],
    ['--report-on-signal', /a --report-signal other than SIGUSR2/],
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
    ['--env-file=.env.local', /it is read once/],
    ['--abort-on-uncaught-exception', /its other requests/],
    ['--preserve-symlinks', /real path/],
  ] as const)
    test(`${option} applies, with a warning`, () => {
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
    test(`${option} applies`, () => {
      assert.deepEqual(judge(option), { refused: [], warnings: [], maxHeaderSize: undefined });
    });

  test('--inspect-brk in WORKER_NODE_OPTIONS applies, with a warning', () => {
    const { refused, warnings } = judge('', { workers: '--inspect-brk' });
    assert.deepEqual(refused, []);
    assert.match(warnings.join(), /each worker waits for a debugger/);
  });

  test('--max-http-header-size sets MAX_HEADER_BYTES, and is refused if that has another value', () => {
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

test('WORKER_NODE_OPTIONS accepts only what Node.js accepts in NODE_OPTIONS', () => {
  assert.deepEqual(nodeOptions('--import "./a b.mjs" --max_old_space_size=100'), [
    '--import',
    './a b.mjs',
    '--max_old_space_size=100',
  ]);
  for (const wrong of ['--no-such-option', '--eval=1', '"'])
    assert.throws(() => nodeOptions(wrong), /(Node\.js options, but has|options that Node\.js accepts)/);
});
