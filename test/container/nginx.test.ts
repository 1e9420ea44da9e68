/**
 * HOST=unix:PATH behind a real nginx, with the configuration and the volume of docs/guide/limits.md.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Wait } from 'testcontainers';
import { blocksOf } from '../docs/blocks.ts';
import { request } from '../process/clients.ts';
import { ROOT } from '../process/kit.ts';
import { freshLoad, keepAliveLoad, uploadLoad } from '../process/loads.ts';
import { temporaryFolder } from '../process/operator.ts';
import { until } from '../until.ts';
import { AppContainer, startApp } from './app.ts';
import { atEnd, docker, imageId, removeContainerAtEnd, uniqueName, withEngine } from './engine.ts';

const NGINX_IMAGE = 'nginx:1.26';
const FOLDER = '/run/app';
const APP = '/app/src/written/app.mjs';
const SOURCE = `
import Koa from 'koa';
export default new Koa().use(async ctx => {
  let bytes = 0;
  for await (const chunk of ctx.req) bytes += chunk.length;
  ctx.body = { pid: process.pid, bytes, ip: ctx.ip, host: ctx.host };
});`;

test(
  'nginx serves an app on a Unix socket from another container, and a rolling restart loses no request',
  withEngine,
  async () => {
    await imageId();
    const [{ text: content = '' } = {}, { text: commands = '' } = {}] = blocksOf(
      readFileSync(join(ROOT, 'docs', 'guide', 'limits.md'), 'utf8'),
    );
    const volume = uniqueName();
    const [create = ''] = commands.split('\n');
    await docker(create.replace(/^docker (.*) sockets$/, `$1 ${volume}`).split(' '));
    atEnd(() => docker(['volume', 'rm', volume]));
    const file = join(temporaryFolder(), 'app.mjs');
    writeFileSync(file, SOURCE);
    const env = { HOST: `unix:${FOLDER}/app.sock`, TRUST_PROXY: 'true', NODE_CLUSTER_WORKERS: '2', APP_MODULE: APP };
    const name = uniqueName();
    removeContainerAtEnd(name);
    const [app, nginx] = await Promise.all([
      startApp({ env, mounts: { [APP]: file, [FOLDER]: volume }, published: false, pod: true }),
      new AppContainer(NGINX_IMAGE)
        .withName(name)
        .withBindMounts([{ source: volume, target: FOLDER }])
        .withCopyContentToContainer([{ content: `events {} http { ${content} }`, target: '/etc/nginx/nginx.conf' }])
        .withPortsOnLoopback(80)
        .withWaitStrategy(Wait.forAll([]))
        .start(),
    ]);
    await app.ready();
    const port = nginx.getMappedPort(80);

    const { body } = await until(
      async () => {
        const answer = await request(port, '/', { headers: { 'X-Forwarded-For': '192.0.2.1' } }).catch(() => undefined);
        return answer?.status === 200 ? answer : undefined;
      },
      () => 'nginx does not answer 200',
    );
    const { ip, host } = JSON.parse(body);
    assert.match(ip, /^\d+\.\d+\.\d+\.\d+$/);
    assert.notEqual(ip, '192.0.2.1', 'nginx replaces what the client sends');
    assert.equal(host, '127.0.0.1');
    const healthcheck = await app.exec('env', 'ADMIN_PORT=0', 'node', '/app/docker/healthcheck.mjs');
    assert.equal(healthcheck.exitCode, 0, healthcheck.output);

    const loads = [keepAliveLoad(port), freshLoad(port), uploadLoad(port)];
    await Promise.all(loads.map(load => load.answered(10)));
    await app.signal('SIGHUP');
    await app.event('pool.restarted');
    const answered = loads.map(load => load.result.answered);
    await Promise.all(loads.map((load, index) => load.answered((answered[index] ?? 0) + 10)));
    for (const load of loads) {
      const { failures, refused, byPid } = await load.stop();
      assert.deepEqual([failures, refused], [[], 0]);
      assert.ok(byPid.size > 1, 'old and new workers');
    }
    assert.equal((await app.stop()).code, 0, app.transcript());
  },
);
