/**
 * Addresses: the one that means all interfaces, and how to write one with a port.
 */
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';

type Interfaces = NodeJS.Dict<Pick<NetworkInterfaceInfo, 'family' | 'address' | 'internal'>[]>;

/**
 * Whether this system is reachable over IPv6 but not IPv4. A link-local IPv4 address does not count: pods of IPv6 clusters have one for outgoing traffic.
 * False for a system without any network.
 */
export function isIpv6Only(interfaces: Interfaces): boolean {
  const all = Object.values(interfaces).flatMap(addresses => addresses ?? []);
  const outer = all.filter(({ internal }) => !internal);
  if (outer.some(({ family, address }) => family === 'IPv4' && !address.startsWith('169.254.'))) return false;
  if (outer.some(({ family, address }) => family === 'IPv6' && !address.startsWith('fe80:'))) return true;
  return all.length > 0 && all.every(({ family }) => family === 'IPv6');
}

const IS_IPV6_ONLY = isIpv6Only(networkInterfaces());

/** With IPv4 it stays `0.0.0.0`: with `::`, clients appear as `::ffff:10.0.0.1`, which does not match lists of allowed addresses. */
export const ANY_ADDRESS = IS_IPV6_ONLY ? '::' : '0.0.0.0';

export const LOOPBACK_ADDRESS = IS_IPV6_ONLY ? '::1' : '127.0.0.1';

/** As in a URL: IPv6 in brackets. */
export const hostAndPort = (host: string, port: number): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
