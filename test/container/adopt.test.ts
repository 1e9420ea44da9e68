import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ADOPT, assertAdopted } from '../adopted.ts';
import { ROOT } from '../process/kit.ts';
import { startApp } from './app.ts';
import { atEnd, docker, imageId, withEngine } from './engine.ts';

const TAG = 'koa-bosun-adopted:test';

test(
  'apps that existed before are sized, served and drained in an image of the six lines of docs/guide/adopt.md',
  withEngine,
  async () => {
    await imageId();
    const folder = mkdtempSync(join(tmpdir(), 'bosun-adopt-'));
    atEnd(async () => rmSync(folder, { recursive: true }));
    cpSync(ADOPT, folder, { recursive: true });
    const [, dockerfile = ''] =
      /```dockerfile\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, 'docs', 'guide', 'adopt.md'), 'utf8')) ?? [];
    assert.equal(dockerfile.trim().split('\n').length, 6);
    assert.match(dockerfile, /^FROM koa-bosun:0\.1\.0$/m);
    writeFileSync(join(folder, 'Dockerfile'), dockerfile.replace('koa-bosun:0.1.0', 'koa-bosun:test'));
    atEnd(() => docker(['image', 'rm', '--force', TAG]));
    await docker(['build', '--quiet', '-t', TAG, folder]);

    await Promise.all(
      ['express-esm', 'koa-cjs', 'http-esm'].map(async project => {
        const app = await startApp({ image: TAG, hardened: true, env: { APP_MODULE: `/srv/${project}/server.js` } });
        await app.ready();
        const stop = async () => (await app.stop()).code;
        await assertAdopted({ port: app.port, status: () => app.status(), stop }, project);
      }),
    );
  },
);
