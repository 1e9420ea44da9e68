/**
 * Addresses: which one stands for all of this system, and how one is written beside a port.
 */
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';

type Interfaces = NodeJS.Dict<Pick<NetworkInterfaceInfo, 'family' | 'address' | 'internal'>[]>;

/**
 * Whether others reach this system by IPv6 and not by IPv4. A link-local IPv4 address reaches nobody: pods of IPv6 clusters have one to get out.
 * A system without any network is none of these.
 */
export function isIpv6Only(interfaces: Interfaces): boolean {
  const all = Object.values(interfaces).flatMap(addresses => addresses ?? []);
  const outer = all.filter(({ internal }) => !internal);
  if (outer.some(({ family, address }) => family === 'IPv4' && !address.startsWith('169.254.'))) return false;
  if (outer.some(({ family, address }) => family === 'IPv6' && !address.startsWith('fe80:'))) return true;
  return all.length > 0 && all.every(({ family }) => family === 'IPv6');
}

const IS_IPV6_ONLY = isIpv6Only(networkInterfaces());

/** Where there is IPv4 it stays `0.0.0.0`: with `::`, clients turn into `::ffff:10.0.0.1`, which lists of allowed addresses do not know. */
export const ANY_ADDRESS = IS_IPV6_ONLY ? '::' : '0.0.0.0';

export const LOOPBACK_ADDRESS = IS_IPV6_ONLY ? '::1' : '127.0.0.1';

/** As in a URL: IPv6 in brackets. */
export const hostAndPort = (host: string, port: number): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
