/**
 * Apps that a test writes.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './operator.ts';

/** A file with a factory of this body, which has `kit`, `sleep` and `createRequire`. */
export function writtenApp(body: string): string {
  const file = join(temporaryFolder(), 'app.mjs');
  rewriteApp(file, body);
  return file;
}

export function rewriteApp(file: string, body: string): void {
  const imports = "import { setTimeout as sleep } from 'node:timers/promises';\nimport { createRequire } from 'node:module';\n";
  writeFileSync(file, `${imports}export default async kit => {\n${body}\n};\n`);
}
