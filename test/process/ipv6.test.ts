/**
 * A system reachable only over IPv6: a network namespace with one such address.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { CLEAN, ROOT, startKit } from './kit.ts';

const ADDRESS = 'fd00::17';
const NETWORK = `ip link set lo up && ip link add outer type veth peer name inner && ip link set inner up && ip address add ${ADDRESS}/64 dev outer nodad && ip link set outer up`;
const WITHOUT_LOOPBACK = `${NETWORK} && ip address del 127.0.0.1/8 dev lo`;
const refused = spawnSync('unshare', ['--net', '/bin/sh', '-c', WITHOUT_LOOPBACK], { encoding: 'utf8' });
const withNamespace = {
  skip:
    refused.status === 0 ? false : `no network namespace can be made here: ${refused.error?.message ?? refused.stderr.trim()}`,
};

describe('on a system without IPv4', { concurrency: 2 }, () => {
  for (const [what, network] of [
    ['no IPv4 beyond loopback', NETWORK],
    ['no IPv4 at all', WITHOUT_LOOPBACK],
  ] as const)
    test(`with ${what}, app, admin port and HEALTHCHECK work over IPv6`, withNamespace, async () => {
      const [port, adminPort] = [3000, 9090];
      const main = join(ROOT, 'src', 'main.ts');
      const kit = await startKit({
        app: 'koa.mjs',
        command: ['unshare', '--net', '/bin/sh', '-c', `${network} && exec "${process.execPath}" "${main}"`],
        env: { HOST: undefined, ADMIN_HOST: undefined, PORT: String(port), ADMIN_PORT: String(adminPort) },
      });
      await kit.event('pool.ready');
      assert.equal((await kit.event('app.listening')).url, `http://localhost:${port}`);
      const inside = async (...args: string[]) =>
        (await promisify(execFile)('nsenter', [`--net=/proc/${kit.pid}/ns/net`, process.execPath, ...args])).stdout;
      for (const url of [`http://[${ADDRESS}]:${port}/`, `http://[${ADDRESS}]:${adminPort}/readyz`])
        assert.equal(await inside('-e', `console.log((await fetch('${url}')).status)`), '200\n');
      await inside(join(ROOT, 'docker', 'healthcheck.mjs'));
      assert.deepEqual(kit.all('balancing.fallback'), []);
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
});
