import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applied, find, read } from '../k8s/manifests.ts';
import { until } from '../until.ts';
import type { App } from './app.ts';
import { startNetwork, withEngine } from './engine.ts';
import { type PodOptions, runPod } from './manifests.ts';

const PATIENCE_MS = 30_000;

const manifests = applied();

test('Redis, the app and the load of make k8s-rollout run as the manifests say', withEngine, async t => {
  const network = await startNetwork();
  const redis = await startRedis({ network, alias: 'redis' });

  await t.test(
    'the Redis of the manifests keeps its sessions on its volume and within its memory, and accepts the app',
    async () => {
      const [aof, policy, bytes, isProtected] = await Promise.all(
        ['appendonly', 'maxmemory-policy', 'maxmemory', 'protected-mode'].map(name =>
          redis.output('redis-cli', 'CONFIG', 'GET', name),
        ),
      );
      assert.match(String(aof), /\nyes/);
      assert.match(String(policy), /\nvolatile-ttl/);
      assert.match(String(bytes), new RegExp(`\n${128 << 20}`));
      // A rewrite of the append-only file copies up to as much again.
      assert.ok(Number((await redis.inspect()).HostConfig.Memory) >= 2 * (128 << 20));
      assert.match(String(isProtected), /\nno/);
      assert.match(await redis.output('ls', '/data'), /^appendonlydir/m);
    },
  );

  await t.test('the app of the manifests serves the load of make k8s-rollout without a failure', async () => {
    const app = await runPod(manifests, wanted('Deployment', 'app'), { network, alias: 'app' });
    await app.ready();
    const [, job] = read('load/load.yaml');
    assert.ok(job);
    // Without a Service that maps port 80 to 3000.
    const load = await runPod(manifests, job, { network, env: { URL: 'http://app:3000' } });
    // The rest is what rollout.sh does with it.
    await until(
      () => /^rollout .* per second/m.test(load.otherOutput) || undefined,
      () => load.transcript(),
      PATIENCE_MS,
    );
    await load.output('sh', '-c', 'kill -INT 1');
    assert.equal(await load.exited(), 0, load.transcript());
    assert.match(load.otherOutput, /^rollout: \d+ s$/m);
    assert.match(load.otherOutput, /^passed$/m);
    assert.match(load.otherOutput, /^rollout +[1-9]\d*/m);
  });

  await t.test('the Redis of the manifests requires the password of the Secret', async () => {
    // startRedis logs in, as the probes do.
    const locked = await startRedis({ network, secrets: { 'redis.password': String.raw`a "word" with \ and $HOME` } });
    const { output } = await locked.exec('env', '--unset=REDISCLI_AUTH', 'redis-cli', 'ping');
    assert.match(output, /NOAUTH/);
  });
});

const wanted = (kind: string, name: string) => {
  const manifest = find(manifests, kind, name);
  assert.ok(manifest, `${kind} ${name}`);
  return manifest;
};

/** Resolves when it is ready by the manifest's own probe. */
async function startRedis(options: PodOptions): Promise<App> {
  const redis = await runPod(manifests, wanted('StatefulSet', 'redis'), options);
  await until(
    async () =>
      (await redis.inspect()).State.Running !== true || (await redis.exec('redis-cli', '-e', 'ping')).exitCode === 0 || undefined,
    () => `Redis does not answer: ${redis.transcript()}`,
  );
  assert.equal((await redis.inspect()).State.Running, true, redis.transcript());
  return redis;
}
