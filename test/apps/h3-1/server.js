import { createServer } from 'node:http';
import { createApp, eventHandler, toNodeListener } from 'h3';

const app = createApp();
app.use('/', eventHandler(() => 'h3 version 1'));
createServer(toNodeListener(app)).listen(process.env.PORT || 3000);
