import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StalledClients } from '../src/worker/connections.ts';

/** A client's port, what this process has not handed to the kernel, and what the kernel has not delivered. */
interface Client {
  remotePort: number;
  writableLength: number;
  inKernel: number;
}

const client = (remotePort: number): Client => ({ remotePort, writableLength: 16e6, inKernel: 2e6 });

function watch(clients: Client[], queues = () => new Map(clients.map(({ remotePort, inKernel }) => [remotePort, inKernel]))) {
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
