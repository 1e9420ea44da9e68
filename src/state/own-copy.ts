/**
 * Loads CommonJS packages for the kit alone, with changes that an app's own copy of the same package must not have. `require.cache` cannot do
 * that: once an entry is deleted from it, `import` of the same package fails in Node.js 26.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { compileFunction } from 'node:vm';

const require = createRequire(import.meta.url);

/**
 * Returns a function that loads files of a package. They share one copy of its modules; other packages that it requires are everybody's, but for
 * `replaced`, by name.
 */
export function ownCopy(replaced: Readonly<Record<string, unknown>> = {}): (path: string) => unknown {
  const modules = new Map<string, { exports: unknown }>();
  const load = (file: string): unknown => {
    const known = modules.get(file);
    if (known !== undefined) return known.exports;
    const module = { exports: {} };
    modules.set(file, module);
    const requireThere = createRequire(file);
    const requireCopy = (path: string): unknown => {
      if (Object.hasOwn(replaced, path)) return replaced[path];
      return path.startsWith('.') ? load(requireThere.resolve(path)) : requireThere(path);
    };
    const names = ['exports', 'require', 'module', '__filename', '__dirname'];
    const run = compileFunction(readFileSync(file, 'utf8'), names, { filename: file });
    run.call(module.exports, module.exports, requireCopy, module, file, dirname(file));
    return module.exports;
  };
  return path => load(require.resolve(path));
}

/**
 * koa-redis. It requires ioredis 4 at once, and uses it only to make a client of its own, which the kit never lets it do. npm applies `overrides`
 * of the root project alone, so a project that installs the kit has that ioredis beside the kit's: it is not loaded.
 */
export const loadKoaRedis = (): unknown => ownCopy({ ioredis: {} })('koa-redis');
