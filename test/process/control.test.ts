/**
 * The control socket: who may use it, when it is created and removed, and that no request harms the primary.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { RawClient, request, requestJson, requestText } from './clients.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { bosun, postControl, Running, startOperated, temporaryFolder } from './operator.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

describe('the control socket', { concurrency: CONCURRENCY }, () => {
  test('the control socket has mode 0600, and is removed when the primary exits', async () => {
    const { kit, socket } = await startOperated({ app: 'koa.mjs' });
    assert.ok(lstatSync(socket).isSocket());
    assert.equal(lstatSync(socket).mode & 0o777, 0o600);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.equal(existsSync(socket), false);
  });

  test('the control socket is removed when a second signal ends the primary at once', async () => {
    const { kit, port, socket } = await startOperated({ app: 'koa.mjs' });
    await using client = await RawClient.open(port);
    client.write(requestText('/slow?ms=20000&mark=slow'));
    await kit.begun('slow');
    kit.signal('SIGTERM');
    await kit.event('shutdown.drain');
    // Two signals within 100 ms would count as one.
    await new Promise(resolve => setTimeout(resolve, 500));
    assert.equal((await kit.stop('SIGTERM')).code, 1);
    assert.equal(existsSync(socket), false);
  });

  test('the control socket of a killed primary is replaced', async () => {
    const first = await startOperated({ app: 'koa.mjs' });
    await first.kit.stop('SIGKILL');
    assert.ok(lstatSync(first.socket).isSocket(), 'a killed primary leaves it behind');
    const refused = await bosun(first.socket, ['status']);
    assert.equal(refused.code, 69);
    assert.match(refused.stderr, /^bosun: no primary is running at /);
    const second = await startOperated({ app: 'koa.mjs', env: { CONTROL_SOCKET: first.socket } });
    const { code, stdout } = await bosun(first.socket, ['status', '--json']);
    assert.deepEqual([code, JSON.parse(stdout).pid], [0, second.kit.pid]);
    assert.equal(lstatSync(first.socket).mode & 0o777, 0o600);
    assert.deepEqual(second.kit.all('control.unavailable'), []);
  });

  test('a primary whose control socket belongs to another running primary serves without one', async () => {
    const first = await startOperated({ app: 'koa.mjs' });
    const { second, port } = await startWithout(first.socket, /belongs to another running primary \(CONTROL_SOCKET\)/);
    assert.equal((await request(port, '/')).status, 200);
    assert.equal(JSON.parse((await first.bosun('status', '--json')).stdout).pid, first.kit.pid);
    assert.deepEqual(await second.stop(), CLEAN);
    assert.equal((await first.bosun('status')).code, 0, 'the other primary has not removed it');
  });

  test('the control socket replaces no file that is not a socket', async () => {
    const file = join(temporaryFolder(), 'precious');
    writeFileSync(file, 'data');
    const { second, port } = await startWithout(file, /precious must be a socket, got another file \(CONTROL_SOCKET\)/);
    assert.equal(readFileSync(file, 'utf8'), 'data');
    assert.equal((await request(port, '/')).status, 200);
    await second.stop();
    assert.equal(readFileSync(file, 'utf8'), 'data');
  });

  for (const { where, path, said } of [
    { where: 'in a folder that is not writable', path: '/proc/bosun.sock', said: /; set PORT, HOST or CONTROL_SOCKET/ },
    {
      where: 'in a folder that does not exist',
      path: '/nowhere/bosun.sock',
      said: /, or it cannot create that socket: \/nowhere does not exist \(ENOENT\); .*CONTROL_SOCKET\n$/,
    },
    {
      where: 'with too long a name',
      path: `/tmp/${'x'.repeat(150)}.sock`,
      said: /^bosun: (no primary is running at|the primary at) /,
    },
  ]) {
    test(`a control socket ${where} causes a warning, and the pool serves`, async () => {
      const { second, port } = await startWithout(path, /CONTROL_SOCKET/);
      assert.equal((await request(port, '/')).status, 200);
      const { code, stderr } = await bosun(path, ['status']);
      assert.equal(code, 69);
      assert.match(stderr, said);
      assert.deepEqual(await second.stop(), CLEAN, second.transcript());
    });
  }

  test('bosun exits with 77 if the primary belongs to another user', {
    skip: isRoot ? false : 'only root can run bosun as another user',
  }, async () => {
    const folder = temporaryFolder();
    chmodSync(folder, 0o755);
    const socket = join(folder, 'control.sock');
    const { kit } = await startOperated({ app: 'koa.mjs', env: { CONTROL_SOCKET: socket } });
    for (const command of ['status', 'restart', 'heap-snapshot']) {
      const { code, stdout, stderr } = await new Running([command, '--socket', socket], { uid: NOBODY, cwd: '/' }).ended;
      assert.deepEqual([code, stdout], [77, '']);
      assert.equal(stderr, `bosun: the primary at ${socket} belongs to another user; run bosun as that user\n`);
    }
    assert.equal((await kit.status()).generation, 1);
  });

  test('a control socket planted by another user gets no data, exit code 77', {
    skip: isRoot ? false : 'only root can make the socket of another user',
  }, async () => {
    const folder = temporaryFolder();
    chmodSync(folder, 0o1777);
    const socket = join(folder, 'control.sock');
    let connections = 0;
    const server = createServer(client => {
      connections++;
      client.destroy();
    }).listen(socket);
    after(() => server.close());
    await once(server, 'listening');
    chownSync(socket, NOBODY, NOBODY);
    for (const args of [['status'], ['broadcast', 'secret', '{}'], ['heap-snapshot', '--output', '-']]) {
      const { code, stdout, stderr } = await bosun(socket, args);
      assert.deepEqual([code, stdout], [77, '']);
      assert.equal(stderr, `bosun: ${socket} must belong to user 0, got user ${NOBODY}; run bosun as that user\n`);
    }
    assert.equal(connections, 0);
  });
});

describe('requests to the control socket', { concurrency: CONCURRENCY }, () => {
  test('malformed requests to the control socket do not disturb the primary', async () => {
    const { kit, port, socket, bosun } = await startOperated({ app: 'koa.mjs' });
    // Not the log's order: on a busy machine the second worker may be ready before the first.
    const pids = (await kit.status()).workers.map(({ pid }) => pid);
    for (const bytes of [
      '\0\u0001\u0002\uffff',
      'no http at all\r\n\r\n',
      'POST /restart HTTP/1.1\r\n\r\n',
      '\u0016\u0003\u0001',
    ]) {
      assert.match(await sentRaw(socket, bytes), /^(HTTP\/1\.1 400 Bad Request\r\n|$)/);
    }
    // An incomplete command is not carried out.
    const half = connect(socket);
    half.write('POST /restart HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"worker":');
    await once(half, 'connect');
    half.destroy();

    for (const body of ['{', 'null', '[1]', '"restart"', '17', '\0']) {
      assert.deepEqual(await postControl(socket, '/restart', body), {
        status: 200,
        body: '{"error":"the body must be a JSON object","status":400}\n',
      });
    }
    for (const body of ['{"worker":"1"}', '{"worker":null}', '{"worker":{}}', '{"worker":-1}', '{"worker":1e999}']) {
      const { body: answer } = await postControl(socket, '/restart', body);
      assert.match(answer, /^\{"error":"there is no worker .+; there is 1, 2","status":404\}\n$/);
    }
    for (const [path, method] of [
      ['/status', 'GET'],
      ['/restart', 'PUT'],
      ['/nonsense', 'POST'],
      ['/', 'POST'],
      ['/constructor', 'POST'],
      ['/__proto__', 'POST'],
      ['/uploads/1', 'PUT'],
      ['/status?x=1', 'POST'],
    ] as const) {
      assert.deepEqual(await postControl(socket, path, '{}', method), { status: 404, body: '' }, `${method} ${path}`);
    }
    // Above the limit: the connection is closed while the client writes, or the client gets the error.
    const huge = await postControl(socket, '/broadcast', JSON.stringify({ event: 'x', data: 'x'.repeat(8 << 20) })).catch(
      (error: NodeJS.ErrnoException) => error.code,
    );
    if (typeof huge === 'object') assert.match(huge.body, /the request body exceeds 1048576 bytes/);
    else assert.match(String(huge), /^(EPIPE|ECONNRESET)$/);

    assert.equal((await bosun('status')).code, 0);
    assert.equal((await request(port, '/')).status, 200);
    const { workers, restarts, generation } = await kit.status();
    assert.deepEqual(
      workers.map(({ pid }) => pid),
      pids,
    );
    assert.deepEqual([restarts.total, generation], [0, 1]);
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.equal(kit.stderr, '');
  });

  test('50 concurrent requests to the control socket are all answered', async () => {
    const { kit, socket, bosun } = await startOperated({ app: 'koa.mjs' });
    const answers = await Promise.all(Array.from({ length: 50 }, () => postControl(socket, '/status', '')));
    for (const { status, body } of answers) {
      assert.equal(status, 200);
      const { result } = JSON.parse(body) as { result: { pid: number; workers: { state: string }[] } };
      assert.equal(result.pid, kit.pid);
      assert.deepEqual(
        result.workers.map(({ state }) => state),
        ['ready', 'ready'],
      );
    }
    const commands = await Promise.all(Array.from({ length: 6 }, () => bosun('status', '--json')));
    for (const { code, stdout } of commands) assert.deepEqual([code, JSON.parse(stdout).pid], [0, kit.pid]);
  });

  test('operations that change state are not reachable on the admin port', async () => {
    const { kit } = await startOperated({ app: 'koa.mjs' });
    for (const path of ['/restart', '/scale', '/cordon', '/broadcast', '/heap-snapshot']) {
      await using client = await RawClient.open(kit.adminPort);
      const { status } = await client.request(path, { method: 'POST', headers: { 'Content-Length': '2' }, body: '{}' });
      assert.equal(status, 404);
    }
    await using client = await RawClient.open(kit.adminPort);
    const { status } = await client.request('/status', { method: 'POST', headers: { 'Content-Length': '0' } });
    assert.equal(status, 405);
    assert.equal((await kit.status()).generation, 1);
  });

  test('the control socket answers while the pod drains, and refuses operations that could not complete', async () => {
    const { kit, port, bosun } = await startOperated({ app: 'koa.mjs' });
    await using client = await RawClient.open(port);
    // Stays open until this test completes its body.
    client.write(requestText('/upload?mark=upload', { method: 'POST', headers: { 'Content-Length': '2' }, body: 'a' }));
    await kit.begun('upload');
    kit.signal('SIGTERM');
    await kit.event('shutdown.drain');
    const { code, stdout } = await bosun('status');
    assert.equal(code, 0);
    assert.match(stdout, /, draining for \d+ s, /);
    const refused = await Promise.all([bosun('restart'), bosun('scale', '3'), bosun('cordon', '1'), bosun('uncordon', '1')]);
    for (const ran of refused) {
      assert.deepEqual(
        [ran.code, ran.stdout, ran.stderr],
        [1, '', 'bosun: the pod is draining; its workers are about to exit\n'],
      );
    }
    client.write('b');
    assert.equal((await client.answer()).status, 200);
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
  });
});

/** A kit that serves without a control socket, and has logged the reason. */
async function startWithout(socket: string, why: RegExp): Promise<{ second: Kit; port: number }> {
  const second = await startKit({ app: 'koa.mjs', env: { CONTROL_SOCKET: socket, PORT: String(await freePort()) } });
  const { port } = await second.ready();
  const { level, path, error } = await second.event('control.unavailable');
  assert.deepEqual([level, path], ['warn', socket]);
  assert.match(String(error), why);
  assert.deepEqual(second.all('control.listening'), []);
  assert.equal((await requestJson<{ state: string }>(second.adminPort, '/status')).state, 'ready');
  return { second, port };
}

/** The response to these bytes, until the connection closes. */
async function sentRaw(path: string, bytes: string): Promise<string> {
  const socket = connect(path);
  let answer = '';
  socket.on('data', chunk => {
    answer += chunk;
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  socket.end();
  let isClosed = false;
  socket.once('close', () => {
    isClosed = true;
  });
  await until(
    () => isClosed || undefined,
    () => `open still; got ${answer}`,
  );
  return answer;
}
