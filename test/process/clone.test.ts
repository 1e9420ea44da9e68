/**
 * A clone of the repository in which an existing app replaces the demo.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { ADOPT, assertAdopted } from '../adopted.ts';
import { request } from './clients.ts';
import { adopterOf, ROOT, startKit } from './kit.ts';

const TYPED_APP = `
import Koa from 'koa';
import type { Kit } from '../index.ts';

export default (kit: Kit): Koa => {
  const app = new Koa();
  app.use(ctx => { ctx.body = 'typed, by worker ' + kit.workerId; });
  return app;
};
`;

suite('an app that replaces the demo', { concurrency: 2 }, () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'bosun-clone-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** The tree as git clones it, its packages installed, without the demo. */
  function clone(name: string): string {
    const root = join(folder, name);
    mkdirSync(root);
    for (const part of ['src', 'package.json']) cpSync(join(ROOT, part), join(root, part), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
    rmSync(join(root, 'src', 'demo'), { recursive: true });
    return root;
  }

  const start = (root: string, env: Record<string, string>) =>
    startKit({ command: [process.execPath, 'src/main.ts'], cwd: root, env: { NODE_CLUSTER_WORKERS: undefined, ...env } });

  for (const project of ['express-cjs', 'koa-esm', 'http-esm'] as const) {
    test(`the existing app ${project} in place of the demo is sized, served and drained`, async () => {
      const root = clone(project);
      cpSync(join(ADOPT, project), join(root, 'src', 'demo'), { recursive: true });
      const kit = await start(root, { APP_MODULE: 'src/demo/server.js' });
      await assertAdopted(await adopterOf(kit, () => kit.signal('SIGTERM')), project);
    });
  }

  test('an app in TypeScript in place of the demo needs no setting', async () => {
    const root = clone('typed');
    mkdirSync(join(root, 'src', 'demo'));
    writeFileSync(join(root, 'src', 'demo', 'app.ts'), TYPED_APP);
    const { port } = await (await start(root, {})).ready();
    assert.match((await request(port, '/')).body, /^typed, by worker \d$/);
  });
});
