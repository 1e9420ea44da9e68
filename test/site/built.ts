/**
 * A built site as files: its pages, and what their links, anchors and pictures lead to. Reads the HTML with regular expressions: it is all
 * written by one program, which quotes every attribute.
 */
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';

export class BuiltSite {
  readonly folder: string;
  /** The path that it is served under. */
  readonly base: string;
  /** Of every page, by its path below `base`. */
  readonly #html: ReadonlyMap<string, string>;

  constructor(folder: string, base: string) {
    this.folder = folder;
    this.base = base;
    const paths = globSync('**/*.html', { cwd: folder }).sort();
    this.#html = new Map(paths.map(path => [path, readFileSync(join(folder, path), 'utf8')]));
  }

  get pages(): string[] {
    return [...this.#html.keys()];
  }

  titleOf(page: string): string {
    return /<title>([^<]*)<\/title>/.exec(this.#htmlOf(page))?.[1] ?? '';
  }

  descriptionOf(page: string): string {
    return /<meta name="description" content="([^"]*)"/.exec(this.#htmlOf(page))?.[1] ?? '';
  }

  /** What the links at the end of a page, to the one before and the one after, lead to. */
  pagerOf(page: string): string[] {
    const links = this.#htmlOf(page).matchAll(/<a class="[^"]*\bpager-link\b[^"]*" href="([^"]*)"/g);
    return [...links].map(([, href = '']) => href);
  }

  /** A file of the site that is no page. */
  text(path: string): string {
    return readFileSync(join(this.folder, path), 'utf8');
  }

  /** Every reference of a page that leads nowhere, and every one to another host than a link that the reader follows. */
  problemsOf(page: string): string[] {
    const tags = this.#htmlOf(page).matchAll(/<([a-z]+)\b([^>]*)>/g);
    return [...tags].flatMap(([, tag = '', attributes = '']) => {
      const targets = [...attributes.matchAll(/\s(href|src|srcset|poster|action)="([^"]*)"/g)].map(([, , target = '']) =>
        decode(target),
      );
      return targets.flatMap(target => {
        if (target.startsWith('data:')) return [];
        const problem = /^(?:[a-z]+:)?\/\//.test(target) ? this.#problemOfHost(tag, target) : this.#problemOfPath(page, target);
        return problem === undefined ? [] : [`${page}: <${tag}> ${target}: ${problem}`];
      });
    });
  }

  #problemOfHost(tag: string, target: string): string | undefined {
    if (tag !== 'a') return 'is loaded from another host';
    return /^https:|^http:\/\/127\.0\.0\.1:/.test(target) ? undefined : 'is not https';
  }

  #problemOfPath(page: string, target: string): string | undefined {
    const [path = '', anchor] = target.split('#');
    const absolute = path.startsWith('/') ? path : posix.join(this.base, posix.dirname(page), path);
    if (path !== '' && !absolute.startsWith(this.base)) return `is not below ${this.base}`;
    const file = path === '' ? page : fileOf(absolute.slice(this.base.length));
    if (!existsSync(join(this.folder, file)) || !statSync(join(this.folder, file)).isFile()) return 'does not exist';
    if (anchor === undefined || anchor === '') return undefined;
    return this.#htmlOf(file).includes(` id="${anchor}"`) ? undefined : 'has no such anchor';
  }

  #htmlOf(page: string): string {
    return this.#html.get(page) ?? '';
  }
}

/** As every static host does. */
function fileOf(path: string): string {
  return path === '' || path.endsWith('/') ? `${path}index.html` : path;
}

function decode(attribute: string): string {
  return decodeURI(attribute.replaceAll('&amp;', '&').replaceAll('&quot;', '"'));
}
