import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { kernelQueues, StalledClients } from '../src/worker/connections.ts';
import { until } from './until.ts';

/** A client's port, what this process has not handed to the kernel, and what the kernel has not delivered. */
interface Client {
  remotePort: number;
  writableLength: number;
  inKernel: number;
}

const client = (remotePort: number): Client => ({ remotePort, writableLength: 16e6, inKernel: 2e6 });

/** What the kernel reports of the clients with these ports. */
const queuesOf = (clients: Client[]) => (ports: ReadonlySet<number>) =>
  new Map(clients.filter(({ remotePort }) => ports.has(remotePort)).map(({ remotePort, inKernel }) => [remotePort, inKernel]));

function watch(clients: Client[], queues = queuesOf(clients)) {
  let now = 1e6;
  const stalled = new StalledClients<Client>(queues, () => now);
  return (ms: number) => {
    now += ms;
    return stalled.among(clients);
  };
}

test('a client that takes nothing of its response for 5 s has stalled, and a slow one has not', () => {
  const [dead, slow, fast] = [client(1), client(2), client(3)];
  const after = watch([dead, slow, fast]);
  assert.deepEqual(after(0), []);
  for (let second = 1; second < 5; second++) {
    slow.inKernel -= 50_000;
    fast.writableLength -= 1e6;
    assert.deepEqual(after(1000), []);
  }
  slow.inKernel -= 50_000;
  fast.writableLength -= 1e6;
  assert.deepEqual(after(1000), [dead]);
  for (let second = 0; second < 4; second++)
    assert.deepEqual(after(1000), [dead], 'clients that take something have 5 s each time');
});

test('a client to which more is written has another 5 s', () => {
  const one = client(1);
  const after = watch([one]);
  after(0);
  after(4000);
  one.writableLength += 1000;
  assert.deepEqual(after(1000), []);
  assert.deepEqual(after(4999), []);
  assert.deepEqual(after(1000), [one]);
});

test('no client counts as stalled if the system does not report its send queues', () => {
  const after = watch([client(1)], () => undefined as never);
  for (let second = 0; second < 20; second++) assert.deepEqual(after(1000), []);
});

test('the send queues are read at most once a second, and take at most a tenth of the time', () => {
  let [now, reads] = [0, 0];
  const queues = () => {
    reads++;
    now += 300;
    return new Map();
  };
  const stalled = new StalledClients<Client>(queues, () => now);
  for (const [at, expected] of [
    [0, 1],
    [2999, 1],
    [3000, 2],
  ] as const) {
    now = at;
    stalled.among([client(1)]);
    assert.equal(reads, expected);
  }
  const quick = new StalledClients<Client>(
    () => {
      reads++;
      return new Map();
    },
    () => now,
  );
  for (const [at, expected] of [
    [10_000, 3],
    [10_999, 3],
    [11_000, 4],
  ] as const) {
    now = at;
    quick.among([client(1)]);
    assert.equal(reads, expected);
  }
});

test("the kernel's send queue of a client that does not read is found by the client's port", {
  skip: process.platform !== 'linux' && 'needs /proc/net/tcp',
}, async () => {
  await using server = createServer(socket => socket.on('error', () => undefined).write(Buffer.alloc(24 << 20)));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const reader = connect(port, '127.0.0.1').pause();
  await once(reader, 'connect');
  const { localPort = 0 } = reader;
  let found: ReturnType<typeof kernelQueues>;
  await until(
    () => {
      found = kernelQueues(new Set([localPort]));
      return (found?.get(localPort) ?? 0) > 100_000 || undefined;
    },
    () => `the queues are ${JSON.stringify([...(found ?? [])])}`,
  );
  assert.equal(found?.size, 1);
  reader.destroy();
});
