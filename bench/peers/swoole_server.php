<?php
// Swoole, in one of its own two modes. Usage: php swoole_server.php PORT MODE [base].
//
// In process mode a reactor in the master process holds the connections and passes messages to a worker; in base mode
// the worker holds them itself.
[$port, $mode] = [(int) $argv[1], $argv[2]];
$own_mode = ($argv[3] ?? "") === "base" ? SWOOLE_BASE : SWOOLE_PROCESS;
$server = new Swoole\WebSocket\Server("127.0.0.1", $port, $own_mode);
$server->set([
    "worker_num" => 1,
    "reactor_num" => 1,
    "log_level" => SWOOLE_LOG_ERROR,
    "package_max_length" => 16 << 20,
    "websocket_compression" => $mode === "deflate",
]);
$server->on("message", function ($server, $frame) use ($mode) {
    if ($mode === "broadcast") {
        foreach ($server->connections as $fd) {
            if ($server->isEstablished($fd)) {
                $server->push($fd, $frame->data, $frame->opcode);
            }
        }
        return;
    }
    if ($mode === "cpu") {
        for ($end = hrtime(true) + 1_000_000; hrtime(true) < $end; );
    }
    $server->push($frame->fd, $frame->data, $frame->opcode);
});
$server->start();
