<?php
// Swoole in process mode. Usage: php swoole_server.php PORT MODE.
[$_, $port, $mode] = $argv;
$server = new Swoole\WebSocket\Server("127.0.0.1", (int) $port, SWOOLE_PROCESS);
$server->set([
    "worker_num" => 1,
    "reactor_num" => 1,
    "log_level" => SWOOLE_LOG_ERROR,
    "package_max_length" => 16 << 20,
    "websocket_compression" => false,
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
