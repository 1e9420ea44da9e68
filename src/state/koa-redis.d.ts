// koa-redis 4 has no types; @types/koa-redis drags in those of another Redis client. What we use of it:
declare module 'koa-redis' {
  interface Store {
    get(id: string): Promise<unknown>;
    set(id: string, session: unknown, ttlMs: number): Promise<void>;
    destroy(id: string): Promise<void>;
  }
  export default function redisStore(options: { client: unknown }): Store;
}
