const app = require('express')();
const server = require('http').createServer(app);
const io = require('socket.io')(server);

app.get('/', (req, res) => res.send('sockets of socket.io'));
io.on('connection', socket => socket.on('echo', (text, answer) => answer(text)));
server.listen(3000);
