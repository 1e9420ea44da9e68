#!/bin/sh
# nginx in front of two single processes: nginx.sh NODE APP FOLDER FIRST_PORT SECOND_PORT. Its files are in FOLDER; PORT is nginx's.
# max_fails=0: else the first request, which finds no process yet, keeps nginx from asking them for 10 s.
set -eu
node=$1 app=$2 folder=$3 first_port=$4 second_port=$5
cat >"$folder/nginx.conf" <<CONF
daemon off;
user $(id -un) $(id -gn);
worker_processes 1;
pid $folder/nginx.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  upstream app {
    server 127.0.0.1:$first_port max_fails=0;
    server 127.0.0.1:$second_port max_fails=0;
    keepalive 64;
  }
  server {
    listen 127.0.0.1:$PORT backlog=511;
    keepalive_requests 1000000000;
    location / {
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass http://app;
    }
  }
}
CONF
PORT=$first_port "$node" "$app" &
first=$!
PORT=$second_port "$node" "$app" &
second=$!
nginx -c "$folder/nginx.conf" &
front=$!
trap 'kill $front $first $second 2>/dev/null; wait; exit 0' TERM
wait
