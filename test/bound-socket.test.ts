import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { connect, createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { bindSocket, HandleSocket, removeStaleSocket } from '../src/balancing/bound-socket.ts';

suite('a socket bound without net.BoundSocket, as on Node.js 22', () => {
  for (const host of ['127.0.0.1', '::1']) {
    test(`has the address ${host} and accepts connections once a server adopts its descriptor`, async () => {
      const bound = new HandleSocket(host, 0, false);
      const { port, address } = bound.address();
      assert.equal(address, host);
      const server = createServer(socket => socket.end('accepted'));
      server.listen(new Socket({ fd: bound.fd(), readable: false, writable: false }));
      await once(server, 'listening');
      const client = connect(port, host);
      assert.equal(String((await once(client, 'data'))[0]), 'accepted');
      client.destroy();
      server.close();
    });
  }

  test('fails on a port that is in use, with the error of net.BoundSocket', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    for (const bind of [
      bindSocket,
      (options: { host: string; port: number }) => new HandleSocket(options.host, options.port, false),
    ])
      assert.throws(() => bind({ host: '127.0.0.1', port }), {
        code: 'EADDRINUSE',
        message: `bind EADDRINUSE 127.0.0.1:${port}`,
      });
    server.close();
  });

  test('shares its port with SO_REUSEPORT, and does not without', async () => {
    const first = new HandleSocket('127.0.0.1', 0, true);
    const { port } = first.address();
    new HandleSocket('127.0.0.1', port, true).close();
    const server = createServer().listen(first);
    await once(server, 'listening');
    assert.throws(() => new HandleSocket('127.0.0.1', port, false), { code: 'EADDRINUSE' });
    new HandleSocket('127.0.0.1', port, true).close();
    server.close();
  });
});

test('the file of a Unix socket is removed only once no process has it, whether it listens or is about to', async context => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-socket-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'app.sock');
  const bound = bindSocket({ host: `unix:${path}` });
  if (process.platform === 'linux')
    await assert.rejects(removeStaleSocket(path), { code: 'EADDRINUSE', message: /belongs to another process that starts$/ });
  renameSync(path, `${path}.left`); // closing removes the file at its path, and a kill does not
  bound.close();
  renameSync(`${path}.left`, path);
  await removeStaleSocket(path);
  assert.ok(!existsSync(path));
  await removeStaleSocket(path);
  await assert.rejects(removeStaleSocket(join(folder, 'none', 'app.sock')), { code: 'ENOENT' });
});
