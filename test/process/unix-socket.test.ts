/**
 * HOST=unix:PATH: the app is served on a Unix socket.
 */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CLEAN, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';

interface Answered {
  status: number | undefined;
  body: string;
}

/** A request over the Unix socket at `socketPath`. */
async function get(socketPath: string, path: string): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>();
  request({ socketPath, path, agent: false }, response => {
    let body = '';
    response.setEncoding('utf8').on('data', text => {
      body += text;
    });
    response.once('end', () => resolve({ status: response.statusCode, body })).once('error', reject);
  })
    .once('error', reject)
    .end();
  return promise;
}

const unix = (path: string, more = {}) => ({ HOST: `unix:${path}`, PORT: undefined, ...more });

describe('HOST=unix:PATH', { concurrency: 2 }, () => {
  test('serves on the socket through a rolling restart, and removes it at the exit', async () => {
    const path = join(temporaryFolder(), 'app.sock');
    const kit = await startKit({ app: 'koa.mjs', env: unix(path) });
    await kit.event('pool.ready');
    assert.equal((await kit.event('app.listening')).url, `unix:${path}`);
    const { path: control } = await kit.event('control.listening');
    assert.match(String(control), /bosun-[\w.-]+app\.sock\.sock$/);
    assert.equal(statSync(path).mode & 0o777, 0o666);
    const pids = new Set<number>();
    const load = async () => {
      while (kit.all('pool.restarted').length === 0) {
        const { status, body } = await get(path, '/slow?ms=5');
        assert.equal(status, 200);
        pids.add(JSON.parse(body).pid);
      }
    };
    const loads = [load(), load(), load(), load()];
    kit.signal('SIGHUP');
    await Promise.all(loads);
    assert.ok(pids.size >= 3, `${[...pids]}`);

    // Another primary with the same path does not take it over.
    const other = await startKit({ app: 'koa.mjs', env: unix(path) });
    assert.deepEqual(await other.exit(), { code: 1, signal: null });
    assert.match(
      String((await other.event('primary.abort')).error),
      /unix:.*app\.sock: cannot listen: EADDRINUSE: .* belongs to another process that listens: stop that one \(ss -lxp names it\), or set another path/,
    );
    assert.equal((await get(path, '/')).status, 200);

    const last = get(path, '/slow?ms=300&mark=last');
    await kit.begun('last');
    kit.signal('SIGTERM');
    assert.equal((await last).status, 200);
    assert.deepEqual(await kit.exit(), CLEAN);
    assert.equal(existsSync(path), false);
  });

  test('an app that listens by itself is served there, on the file that a killed primary has left', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'app.sock');
    const app = join(folder, 'app.cjs');
    writeFileSync(app, "require('node:http').createServer((_, response) => response.end('ok')).listen(process.env.PORT);");
    const env = unix(path, { PORT: '8080', APP_MODULE: app });
    const killed = await startKit({ env });
    await killed.event('pool.ready');
    assert.equal((await get(path, '/')).status, 200);
    await killed.kill();
    assert.ok(existsSync(path));
    const kit = await startKit({ env });
    await kit.event('pool.ready');
    assert.equal((await get(path, '/')).status, 200);
    assert.deepEqual(await kit.stop(), CLEAN);
  });

  test('a file that is no socket is not removed', async () => {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, 'text');
    const kit = await startKit({ app: 'koa.mjs', env: unix(path) });
    assert.deepEqual(await kit.exit(), { code: 1, signal: null });
    assert.match(String((await kit.event('primary.abort')).error), /exists, and is no socket/);
    assert.ok(existsSync(path));
  });
});
