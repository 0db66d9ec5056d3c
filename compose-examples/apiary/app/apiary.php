<?php
// What the command line and the web have in common: settings from the environment, the database, the search index.

declare(strict_types=1);

const STORAGE = '/storage/app';
// There while `artisan down` keeps everybody out, as in Laravel.
const DOWN = '/app/storage/framework/down';

set_error_handler(function (int $severity, string $message, string $file, int $line): never {
    throw new ErrorException($message, 0, $severity, $file, $line);
});

/** $NAME, or the content of the file that $NAME_FILE names. */
function setting(string $name): string
{
    $file = getenv("{$name}_FILE");
    return $file ? trim(file_get_contents($file)) : (string) getenv($name);
}

function database(): PDO
{
    static $connection;
    return $connection ??= new PDO(
        sprintf('mysql:host=%s;dbname=%s;charset=utf8mb4', setting('DB_HOST'), setting('DB_DATABASE')),
        setting('DB_USERNAME'),
        setting('DB_PASSWORD'),
        [PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC, PDO::ATTR_TIMEOUT => 5],
    );
}

function execute(string $sql, array $values = []): PDOStatement
{
    $statement = database()->prepare($sql);
    $statement->execute($values);
    return $statement;
}

function rows(string $sql, array $values = []): array
{
    return execute($sql, $values)->fetchAll();
}

/** Asks Meilisearch. */
function search(string $method, string $path, ?array $body = null): array
{
    $http = [
        'method' => $method,
        'header' => 'Content-Type: application/json',
        'content' => $body === null ? '' : json_encode($body),
        'timeout' => 10,
    ];
    $answer = file_get_contents(setting('MEILISEARCH_HOST') . $path, false, stream_context_create(['http' => $http]));
    return json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
}

/** Puts users into the search index; all of them unless one is named. */
function index_users(?int $id = null): int
{
    $users = rows('SELECT id, uid, first_name, last_name FROM users' . ($id === null ? '' : " WHERE id = $id"));
    search('POST', '/indexes/users/documents', $users);
    return count($users);
}
