# Made by Greenroom; changes here are lost at its next start.
global
    stats socket $socket mode 600 level admin
    maxconn 8192
    hard-stop-after 30s
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode http
    option http-keep-alive
    option forwardfor
    option redispatch
    # What was not sent to a server is sent to another one; what may have been done is never done twice.
    retries 3
    retry-on conn-failure empty-response
    timeout connect 2s
    timeout queue 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout tunnel 1h
    default-server check inter 1s fastinter 250ms downinter 250ms fall 2 rise 1

frontend front
$binds
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-var(txn.host) req.hdr(host),field(1,:),lower
    use_backend %[var(txn.host),map($routes)] if { var(txn.host),map($routes) -m found }
    use_backend %[var(txn.host),map($hosts)] if { var(txn.host),map($hosts) -m found }
    default_backend nowhere

backend nowhere
    http-request return status 404 content-type text/plain string "No environment has this name here."

$backends
