/** Files of a package of the registry, unpacked into a temporary folder once a process. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folders = new Map<string, string>();

/** The folder of a package's files, for a name such as `cdk8s-plus-31@2.6.43`. It is removed when the process exits. */
export function unpacked(name: string): string {
  const known = folders.get(name);
  if (known !== undefined) return known;
  const folder = mkdtempSync(join(tmpdir(), 'k8s-schemas-'));
  process.once('exit', () => rmSync(folder, { recursive: true }));
  const tarball = execFileSync('npm', ['pack', '--silent', name], { cwd: folder, encoding: 'utf8' });
  execFileSync('tar', ['xzf', tarball.trim()], { cwd: folder });
  const unpackedHere = join(folder, 'package');
  folders.set(name, unpackedHere);
  return unpackedHere;
}
