import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { freePort } from '../free-port.ts';
import { ROOT } from '../process/kit.ts';
import { Visitor } from '../visitor.ts';
import { App } from './app.ts';
import { atEnd, docker, engine, uniqueName, withEngine } from './engine.ts';
import { DELAY_MS, stopUnderLoad } from './load.ts';

const REDIS_PORT = 6379;

test('docker compose up --wait', withEngine, async t => {
  const wasTaken = await isOpen(REDIS_PORT);
  const [port, adminPort] = [await freePort(), await freePort()];
  const { compose, loadtest } = projectOf({
    PORT: String(port),
    ADMIN_PORT: String(adminPort),
    SHUTDOWN_DELAY_MS: String(DELAY_MS),
  });
  await compose('up', '--build', '--wait');
  const app = await App.of(await compose('ps', '--quiet', 'app'));
  const redisId = await compose('ps', '--quiet', 'redis');
  const { container, network } = await engine();

  await t.test('docker compose up --wait returns when app and Redis are healthy on the configured ports', async () => {
    assert.equal((await app.probe('/readyz')).status, 200);
    assert.deepEqual([app.port, app.adminPort], [port, adminPort]);
    const redis = await container.getById(redisId).inspect();
    for (const { State } of [await app.inspect(), redis]) assert.equal(State.Health?.Status, 'healthy');
  });

  await t.test('both workers of the compose stack share one session, kept in Redis', async () => {
    const visitor = new Visitor();
    await visitor.countOnEveryWorker(port, 2);
    const command = ['redis-cli', 'EXISTS', `koa-bosun:koa:sess:${visitor.cookies.get('koa:sess')}`];
    assert.equal((await container.exec(container.getById(redisId), command)).stdout.trim(), '1');
  });

  await t.test('no service of the compose stack has more rights or resources than it needs', async () => {
    const limits = { app: { id: app.id, memoryMb: 512, pids: 256 }, redis: { id: redisId, memoryMb: 256, pids: 64 } };
    for (const [name, { id, memoryMb, pids }] of Object.entries(limits)) {
      const { HostConfig, Config } = await container.getById(id).inspect();
      assert.equal(HostConfig.ReadonlyRootfs, true, name);
      assert.equal(HostConfig.Privileged, false, name);
      assert.deepEqual(HostConfig.CapDrop, ['ALL'], name);
      assert.deepEqual(HostConfig.CapAdd ?? [], [], name);
      assert.deepEqual(HostConfig.SecurityOpt, ['no-new-privileges:true'], name);
      assert.equal(HostConfig.Memory, memoryMb * 2 ** 20, name);
      assert.equal(HostConfig.PidsLimit, pids, name);
      const nofile = HostConfig.Ulimits?.find(({ Name }) => Name === 'nofile');
      assert.ok((nofile?.Soft ?? 0) > 1024, name);
      assert.match(Config.User, /^[1-9]\d*:[1-9]\d*$/, name);
    }
    for (const { HostIp } of Object.values((await app.inspect()).NetworkSettings.Ports).flat()) assert.equal(HostIp, '127.0.0.1');
  });

  await t.test('only the app reaches the Redis of the compose stack', async () => {
    const { NetworkSettings, HostConfig } = await container.getById(redisId).inspect();
    assert.deepEqual(HostConfig.PortBindings ?? {}, {});
    assert.deepEqual(Object.values(NetworkSettings.Ports).filter(Boolean), []);
    const names = Object.keys(NetworkSettings.Networks);
    assert.equal(names.length, 1);
    const { Internal, Containers } = await network.getById(names[0] ?? '').inspect();
    assert.equal(Internal, true);
    assert.deepEqual(new Set(Object.keys(Containers ?? {})), new Set([app.id, redisId]));
    assert.equal(await isOpen(REDIS_PORT), wasTaken);
    assert.match(await app.output('node', '-e', PING), /^\+PONG/);
  });

  await t.test('make loadtest finds the running stack, and its rolling restart fails no request', async () => {
    const stdout = await loadtest({ SCENARIO: 'rolling-restart', DURATION: '2', RATE: '50' });
    assert.match(stdout, /\(compose stack that was running\)/);
    assert.match(stdout, /^ended workers: 2 restart$/m);
    assert.match(stdout, /^passed$/m);
  });

  await t.test('SIGTERM to the app container of the compose stack loses no request under load', async () => {
    await stopUnderLoad(app, () => compose('kill', '--signal', 'TERM', 'app'));
    assert.equal(await app.exited(), 0);
  });
});

test('make loadtest starts the compose stack if none runs, and stops it afterwards', withEngine, async () => {
  const [PORT, ADMIN_PORT] = [String(await freePort()), String(await freePort())];
  const { compose, loadtest } = projectOf({ PORT, ADMIN_PORT, SHUTDOWN_DELAY_MS: '0' });
  const stdout = await loadtest({ SCENARIO: 'crash', DURATION: '3', RATE: '50' });
  assert.match(stdout, /\(compose stack, started for this test\)/);
  assert.match(stdout, /^ended workers: \d+ killed$/m);
  assert.match(stdout, /^passed$/m);
  assert.equal(await compose('ps', '--all', '--quiet'), '');
  assert.equal(await isOpen(Number(PORT)), false);
});

/** Queries Redis from inside the app's container. */
const PING = `
  const socket = require('node:net').connect(${REDIS_PORT}, 'redis', () => socket.write('PING\\r\\n'));
  socket.on('data', data => { process.stdout.write(data); socket.destroy(); });
`;

interface Project {
  /** What the command prints. */
  compose(...args: string[]): Promise<string>;
  loadtest(settings: Record<string, string>): Promise<string>;
}

/** The compose file as a project of its own, with an image of its own: the developer's koa-bosun:0.1.0 is not ours to replace. */
function projectOf(settings: Record<string, string>): Project {
  const project = uniqueName();
  const folder = mkdtempSync(join(tmpdir(), 'bosun-test-'));
  const override = join(folder, 'image.json');
  writeFileSync(override, JSON.stringify({ services: { app: { image: project } } }));
  const env = { ...settings, COMPOSE_FILE: `compose.yaml:${override}`, COMPOSE_PROJECT_NAME: project };
  const compose = (...args: string[]) => docker(['compose', ...args], env);
  const loadtest = async (scenario: Record<string, string>) => {
    const ran = { env: { ...process.env, ...env, ...scenario, STACK: 'compose', OUT: folder } };
    return (await promisify(execFile)(process.execPath, [join(ROOT, 'src', 'loadtest', 'main.ts')], ran)).stdout;
  };
  atEnd(async () => {
    await compose('down', '--volumes', '--timeout', '1');
    if (await docker(['image', 'ls', '--quiet', project])) await docker(['image', 'rm', project]);
    rmSync(folder, { recursive: true });
  });
  return { compose, loadtest };
}

async function isOpen(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
  const answer = await promise;
  socket.destroy();
  return answer;
}
