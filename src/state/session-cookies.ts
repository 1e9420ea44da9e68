/**
 * The cookies of one request as koa-session sees them: signed with the kit's keys, independent of the app's keys and cookies. Signatures are
 * those of Koa's `ctx.cookies`.
 */
import { createRequire } from 'node:module';
import type Cookies from 'cookies';
import type Koa from 'koa';

/** Koa's own: the package that its `ctx.cookies` come from, wherever it is installed. */
const KoaCookies = createRequire(createRequire(import.meta.url).resolve('koa'))('cookies') as typeof Cookies;

export class SessionCookies extends KoaCookies {
  #attributes: Cookies.SetOption = {};

  /** @param keys newest first: the first one signs, all of them verify */
  constructor(ctx: Koa.Context, keys: string[], isSecure: boolean) {
    super(ctx.req, ctx.res, { keys, secure: isSecure });
  }

  /** @param options those of koa-session, whose attributes are the cookie's */
  override get(name: string, options?: Cookies.GetOption): string | undefined {
    if (options?.signed) this.#attributes = options;
    return super.get(name, options);
  }

  /** A cookie signed with an older key gets a new signature, which must last as long as the cookie: `cookies` would end it with the browser session. */
  override set(name: string, value?: string | null, options?: Cookies.SetOption): this {
    const isNewSignature = name.endsWith('.sig') && typeof value === 'string';
    return super.set(name, value, isNewSignature ? { ...this.#attributes, ...options } : options);
  }
}
