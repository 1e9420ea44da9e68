/**
 * Socket.IO's long polling behind a real HAProxy, as docs/guide/websockets.md says: its cookie chooses the pod, NODE_CLUSTER_STICKY the worker. It sends
 * requests of many clients over the connections that it keeps.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { io } from 'socket.io-client';
import { Wait } from 'testcontainers';
import { freePort } from '../free-port.ts';
import { CLEAN, startKit } from '../process/kit.ts';
import { until } from '../until.ts';
import { AppContainer } from './app.ts';
import { HAPROXY_IMAGE } from './balancer.ts';
import { removeContainerAtEnd, uniqueName, withEngine } from './engine.ts';

const CLIENTS = 12;

const configuration = (port: number, pods: readonly number[]) => `
defaults
  mode http
  timeout connect 2s
  timeout client 1m
  timeout server 1m
  http-reuse always
listen app
  bind 127.0.0.1:${port}
  cookie POD insert indirect nocache
${pods.map((pod, index) => `  server pod${index} 127.0.0.1:${pod} cookie pod${index}`).join('\n')}
`;

test('Socket.IO polls 2 pods of 2 workers through HAProxy without an unknown session', withEngine, async () => {
  const env = { NODE_CLUSTER_STICKY: 'cookie', NODE_CLUSTER_SCHED_POLICY: 'rr' };
  const pods = await Promise.all([1, 2].map(() => startKit({ app: 'socket-io.mjs', env })));
  const ports = await Promise.all(pods.map(async pod => (await pod.ready()).port));
  const port = await freePort();
  const name = uniqueName();
  removeContainerAtEnd(name);
  await new AppContainer(HAPROXY_IMAGE)
    .withName(name)
    .withNetworkMode('host')
    .withCopyContentToContainer([{ content: configuration(port, ports), target: '/usr/local/etc/haproxy/haproxy.cfg' }])
    .withWaitStrategy(Wait.forLogMessage(/Loading success/))
    .start();
  const problems: string[] = [];
  const clients = Array.from({ length: CLIENTS }, () => {
    const client = io(`http://127.0.0.1:${port}`, { transports: ['polling'], withCredentials: true, forceNew: true });
    client.on('connect_error', error => problems.push(error.message));
    client.on('disconnect', reason => problems.push(reason));
    return client;
  });
  after(() => {
    for (const client of clients) client.disconnect();
  });
  const served = await Promise.all(
    clients.map(async client => {
      const answers = new Set<unknown>();
      for (let round = 0; round < 5; round++) answers.add(await client.timeout(5000).emitWithAck('echo', 'hello'));
      return [...answers];
    }),
  );
  assert.deepEqual(problems, []);
  assert.ok(served.every(answers => answers.length === 1));
  assert.equal(new Set(served.flat()).size, 4, 'every worker has clients');
  for (const pod of pods)
    await until(
      async () => /^bosun_sticky_requests_total\{result="passed"\} [1-9]/m.test((await pod.probe('/metrics')).body) || undefined,
      () => 'no request was passed on',
    );
  for (const client of clients) client.off('disconnect').disconnect();
  assert.deepEqual(await Promise.all(pods.map(pod => pod.stop())), [CLEAN, CLEAN]);
});
