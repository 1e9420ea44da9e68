import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CHECKS, type PageBlock } from './docs/block-rules.ts';
import { ALL_PAGES, blocksOf, ROOT, shapeOf, stepsOf } from './docs/blocks.ts';
import { typeErrors } from './docs/typed-blocks.ts';
import { applied, at, containersOf, find } from './k8s/manifests.ts';
import { problems } from './k8s/schemas.ts';

const pages = ALL_PAGES.map(page => ({ page, text: readFileSync(join(ROOT, page), 'utf8') }));
/** What make docs generates from the sources is checked in test/docs-reference.test.ts, but for its commands. */
const blocks: PageBlock[] = pages.flatMap(({ page, text }) => blocksOf(text).map(block => ({ ...block, page })));

test('every code block has a language, and a rule that holds it against the source', () => {
  for (const { page, text } of pages) {
    const opened = [...text.matchAll(/^```.*$/gm)].filter((_, index) => index % 2 === 0).map(([fence]) => fence);
    for (const fence of opened)
      assert.ok(fence.slice(3) in CHECKS, `${page}: ${fence}: a language without a rule in test/docs/block-rules.ts`);
    assert.doesNotMatch(text, /^ +```/m, `${page}: an indented block, which no test reads`);
    assert.equal(blocksOf(text).length, opened.length, `${page}: a fence without an end`);
  }
  assert.ok(blocks.length > 40);
});

test('every shell, JSON, YAML, diff and Dockerfile block fits what it is about', () => {
  const problems = blocks.flatMap(block => {
    try {
      CHECKS[block.language]?.(block);
      return [];
    } catch (error) {
      return [`${block.page}:${block.line}: ${(error as Error).message}`];
    }
  });
  assert.deepEqual(problems, []);
});

test('every JavaScript and TypeScript block passes the compiler', async () => {
  const typed = blocks.filter(({ page, language }) => /^[jt]s$/.test(language) && page !== 'docs/reference/kit.md');
  assert.ok(typed.length > 3);
  assert.deepEqual(await typeErrors(typed), []);
});

test('the file that tracing.md shows is the one that make test-apps loads', () => {
  const shown = blocks.filter(({ page, language }) => page === 'docs/guide/tracing.md' && language === 'js');
  const tested = readFileSync(join(ROOT, 'test', 'apps', 'tracing', 'instrumentation.mjs'), 'utf8');
  assert.deepEqual(
    shown.map(({ text }) => text.trim()),
    [tested.trim()],
  );
});

test('a block is split into commands and their output', () => {
  const [block] = blocksOf('text\n```console\n$ one \\\n  two\nprinted\nmore\n$ three\n```\n');
  assert.ok(block);
  assert.equal(block.line, 2);
  assert.deepEqual(stepsOf(block), [
    { command: 'one \\\n  two', output: 'printed\nmore' },
    { command: 'three', output: '' },
  ]);
});

test('outputs are compared without what differs from run to run, and with the rest', () => {
  const printed = 'worker 3 (process 7539) serves after 296 ms';
  assert.deepEqual(shapeOf(printed), shapeOf('worker 1 (process 12) serves after 1,096 ms\n'));
  assert.notDeepEqual(shapeOf(printed), shapeOf('worker 3 (process 7539) fails after 296 ms'));
  assert.notDeepEqual(shapeOf(printed), shapeOf(`${printed}\nand more`));
});

test('kubectl blocks, which only a cluster can run, are shell and fit the manifests', () => {
  const block = blocks.find(({ language, text }) => language === 'sh' && text.includes('--subresource resize'));
  assert.ok(block);
  execFileSync('bash', ['-n'], { input: block.text });
  const deployment = find(applied(), 'Deployment') ?? {};
  const namespaces = [...block.text.matchAll(/^kubectl -n (\S+)/gm)].map(([, name]) => name);
  assert.deepEqual([...new Set(namespaces)], [at(deployment, 'metadata.namespace')]);
  const [, patch = ''] = /--subresource resize -p '([^']+)'/.exec(block.text) ?? [];
  for (const { name, ...changed } of JSON.parse(patch).spec.containers as { name: string }[]) {
    const container = containersOf(deployment).find(one => one.name === name);
    assert.ok(container, name);
    Object.assign(container, changed);
  }
  assert.deepEqual(problems(deployment, '1.36'), []);
});
