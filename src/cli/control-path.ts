/**
 * Where the control socket of the pool is that a command concerns.
 */
import { existsSync, lstatSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { controlSocketOf, type Environment, isSet, readConfig } from '../config/config.ts';
import { socketPathOf } from '../config/parse.ts';

/** The control socket of a primary with this environment. @throws ConfigError */
export function controlPath(environment: Environment, fromDotenv?: ReadonlySet<string>): string {
  const config = readConfig(environment, fromDotenv);
  const path = controlSocketOf(config, config.port);
  const isNamed = config.controlSocket !== undefined || socketPathOf(config.host) !== undefined || isSet(environment, 'port');
  if (isNamed || existsSync(path)) return path;
  // The app may have named another port than the default one, or be served on a Unix socket.
  const [only, ...others] = ownSockets();
  return only === undefined || others.length > 0 ? path : only;
}

function ownSockets(): string[] {
  const folder = tmpdir();
  const files = existsSync(folder) ? readdirSync(folder).filter(name => /^bosun-.+\.sock$/.test(name)) : [];
  return files.map(name => join(folder, name)).filter(isOwnSocket);
}

function isOwnSocket(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isSocket() === true && found.uid === process.geteuid?.();
}
