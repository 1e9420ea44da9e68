/**
 * HAProxy in front of app containers, as Services and ingress controllers are in front of pods: it checks each pod's /readyz itself, so
 * that one that says no is left out only after two checks, and it never repeats a request. Endpoints come and go by its runtime API.
 */
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { type StartedNetwork, Wait } from 'testcontainers';
import { until } from '../until.ts';
import { type App, AppContainer } from './app.ts';
import { removeContainerAtEnd, uniqueName } from './engine.ts';

export const HAPROXY_IMAGE = 'haproxy:3.0';
const SERVERS = 9;
const CONTROL_PORT = 9999;
/** A busy machine is late with its checks. */
const STATE_TIMEOUT_MS = 30_000;

/** Two checks in a row must fail: an endpoint leaves 1 to 2 s after its SIGTERM, and what the machine is late by. */
export const LAG_MS = { least: 1000, most: 2000 };

/**
 * The ways in. `service` passes connections on, as kube-proxy does; `ingress` passes requests on, over connections that it keeps to each
 * pod. A connection that no pod accepts is a failure with both. `retrying` looks for another pod then, as ingress controllers do.
 */
const WAYS = {
  service: { port: 8001, settings: ['mode tcp', 'retries 0'] },
  ingress: { port: 8002, settings: ['mode http', 'retries 0'] },
  retrying: { port: 8003, settings: ['mode tcp', 'retries 3', 'option redispatch 1', 'timeout connect 500ms'] },
};

type Way = keyof typeof WAYS;

const CONFIGURATION = `
global
  stats socket ipv4@0.0.0.0:${CONTROL_PORT} level admin
defaults
  timeout connect 2s
  timeout client 1m
  timeout server 1m
  balance roundrobin
  option httpchk GET /readyz
  default-server check port 9090 inter ${LAG_MS.least}ms downinter 100ms fall 2 rise 1
${Object.entries(WAYS)
  .map(
    ([name, { port, settings }]) => `
listen ${name}
  bind :${port}
  ${settings.join('\n  ')}
  server-template pod 1-${SERVERS} 0.0.0.0:3000 disabled`,
  )
  .join('\n')}
`;

export class Balancer {
  /** On 127.0.0.1. */
  readonly port: Record<Way, number>;
  readonly #controlPort: number;
  readonly #servers = new Map<App, number>();
  #taken = 0;

  static async start(network: StartedNetwork): Promise<Balancer> {
    const name = uniqueName();
    removeContainerAtEnd(name);
    const container = await new AppContainer(HAPROXY_IMAGE)
      .withName(name)
      .withNetwork(network)
      .withCopyContentToContainer([{ content: CONFIGURATION, target: '/usr/local/etc/haproxy/haproxy.cfg' }])
      .withPortsOnLoopback(CONTROL_PORT, ...Object.values(WAYS).map(({ port }) => port))
      .withWaitStrategy(Wait.forListeningPorts())
      .start();
    const portOf = (way: Way) => container.getMappedPort(WAYS[way].port);
    const port = { service: portOf('service'), ingress: portOf('ingress'), retrying: portOf('retrying') };
    return new Balancer(port, container.getMappedPort(CONTROL_PORT));
  }

  private constructor(port: Record<Way, number>, controlPort: number) {
    this.port = port;
    this.#controlPort = controlPort;
  }

  /** Sends it connections from its first good check on. */
  async add(app: App): Promise<void> {
    const [address] = Object.values((await app.inspect()).NetworkSettings.Networks);
    if (!address?.IPAddress) throw new Error(`container ${app.id} must have an address on the balancer's network`);
    const server = ++this.#taken;
    if (server > SERVERS) throw new Error(`the balancer has room for ${SERVERS} pods`);
    this.#servers.set(app, server);
    for (const way of Object.keys(WAYS)) {
      await this.#command(`set server ${way}/pod${server} addr ${address.IPAddress} port 3000`);
      // A new endpoint has to pass its check first; HAProxy takes one that comes out of maintenance for healthy, so it comes by way of a drain.
      await this.#command(`set server ${way}/pod${server} state drain`);
      await this.#command(`set server ${way}/pod${server} health stopping`);
      await this.#command(`set server ${way}/pod${server} state ready`);
    }
  }

  /** Nothing more for it. Its address may be another container's next. */
  async remove(app: App): Promise<void> {
    for (const way of Object.keys(WAYS)) await this.#command(`set server ${way}/pod${this.#servers.get(app)} state maint`);
  }

  /** Resolves when every way in sends it connections. */
  async serving(app: App): Promise<void> {
    await this.#waysUp(app, Object.keys(WAYS).length);
  }

  /** Resolves when no way in does any more. */
  async left(app: App): Promise<void> {
    await this.#waysUp(app, 0);
  }

  /** How many of the ways in send it connections. */
  async waysTo(app: App): Promise<number> {
    const rows = (await this.#command('show stat')).split('\n').map(line => line.split(','));
    const status = rows[0]?.indexOf('status') ?? -1;
    return rows.filter(row => row[1] === `pod${this.#servers.get(app)}` && row[status]?.startsWith('UP')).length;
  }

  async #waysUp(app: App, wanted: number): Promise<void> {
    await until(
      async () => (await this.waysTo(app)) === wanted || undefined,
      () => `${wanted} ways to ${app.id} expected; ${app.transcript()}`,
      STATE_TIMEOUT_MS,
    );
  }

  async #command(line: string): Promise<string> {
    const socket = connect(this.#controlPort, '127.0.0.1');
    socket.end(`${line}\n`);
    const answer = (await text(socket)).trim();
    // A change prints something only if it fails; other output begins with a comment.
    if (line.startsWith('set ') && /^(?!IP changed|no need|nothing)\S/i.test(answer))
      throw new Error(`HAProxy, "${line}": ${answer}`);
    return answer;
  }
}
