/**
 * The URL under which a listening server can be opened: 0.0.0.0 and :: mean all addresses, and browsers open neither of them.
 */
import { networkInterfaces } from 'node:os';
import { hostAndPort, type Interfaces } from './parse.ts';

/** All addresses of the system, in each way that a HOST can say it. */
const ALL = /^(?:0|0\.0\.0\.0|::|::0|(?:0:){7}0|::ffff:0\.0\.0\.0)$/;

/**
 * `http://localhost:3000` for a server that listens on all addresses. In a pod of Kubernetes it has the address of the pod instead, where other
 * pods reach it: localhost means another machine to everyone who reads its log. Any other host, and `unix:` with a path, stays as it is.
 */
export function openUrl(
  scheme: string,
  host: string,
  port: number,
  isInKubernetes = Boolean(process.env.KUBERNETES_SERVICE_HOST),
  interfaces: () => Interfaces = networkInterfaces,
): string {
  if (host.startsWith('unix:')) return host;
  return `${scheme}://${hostAndPort(ALL.test(host) ? namedHost(isInKubernetes, interfaces) : host, port)}`;
}

function namedHost(isInKubernetes: boolean, interfaces: () => Interfaces): string {
  if (!isInKubernetes) return 'localhost';
  const addresses = Object.values(interfaces()).flatMap(all => all ?? []);
  const outer = addresses.filter(({ internal, address }) => !internal && !/^(?:169\.254\.|fe80:)/.test(address));
  return (outer.find(({ family }) => family === 'IPv4') ?? outer[0])?.address ?? 'localhost';
}
