import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { blocksOf, changesOf, PAGES, shapeOf, stepsOf } from './docs/blocks.ts';
import { applied, at, containersOf, find } from './k8s/manifests.ts';
import { problems } from './k8s/schemas.ts';

const ROOT = join(import.meta.dirname, '..');
const blocks = PAGES.flatMap(page => blocksOf(readFileSync(join(ROOT, page), 'utf8')));

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

test('the change to an Express app fits the app of make test-readme, and has less than ten lines', () => {
  const diff = blocks.find(({ language }) => language === 'diff');
  assert.ok(diff);
  const app = readFileSync(join(ROOT, 'test', 'docs', 'my-app', 'server.js'), 'utf8');
  const changes = changesOf(diff);
  for (const { before } of changes) assert.ok(app.includes(before), before);
  const lines = changes.reduce((sum, { removed, added }) => sum + Math.max(removed, added), 0);
  assert.ok(lines > 0 && lines < 10, `${lines} lines`);
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
