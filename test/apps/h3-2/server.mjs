import { H3, serve } from 'h3';

const app = new H3().get('/', () => 'h3 version 2');
serve(app, { port: 3000 });
