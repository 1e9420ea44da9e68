/** Koa 2 has the types of Koa 3, as far as the tests use it. */
declare module 'koa2' {
  import Koa from 'koa';
  export default Koa;
}
