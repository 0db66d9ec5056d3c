<?php
// What the application answers, as JSON.
//
//     GET  /ping                               the database answers, while `artisan down` keeps users out too
//     GET  /api/v1/summary                     rows of every table, and a checksum over them
//     GET  /api/v1/users/search?keyword=WORD   users, as the search index knows them
//     POST /api/v1/users                       a new user; Nova's log of actions tells of it
//     GET, POST /api/v1/users/UID/resume       the uploaded file

declare(strict_types=1);

require __DIR__ . '/../apiary.php';
require __DIR__ . '/../database.php';

function create_user(array $user): array
{
    $values = [$user['uid'], $user['first_name'], $user['last_name']];
    execute('INSERT INTO users (uid, first_name, last_name) VALUES (?, ?, ?)', $values);
    $id = (int) database()->lastInsertId();
    execute("INSERT INTO action_events (payload, parent_id) VALUES ('Create user', ?)", [$id]);
    index_users($id);
    return $user;
}

function resume(string $uid): string
{
    return STORAGE . "/resumes/$uid.pdf";
}

function upload_resume(string $uid, string $content): array
{
    file_put_contents(resume($uid), $content);
    execute('UPDATE users SET resume_date = now() WHERE uid = ?', [$uid]);
    return ['bytes' => strlen($content)];
}

/** The status, and what is answered: a file's content as it is, anything else as JSON. */
function answer(string $method, string $path): array
{
    if (file_exists(DOWN) && $path !== '/ping') {
        return [503, ['message' => 'Service Unavailable']];
    }
    $uid = preg_match('~^/api/v1/users/(\w+)/resume$~', $path, $found) ? $found[1] : '';
    return match (true) {
        [$method, $path] === ['GET', '/ping'] => [200, rows("SELECT 'pong' AS message")[0]],
        [$method, $path] === ['GET', '/api/v1/summary'] => [200, summary()],
        [$method, $path] === ['GET', '/api/v1/users/search'] =>
            [200, search('GET', '/indexes/users/search?q=' . urlencode($_GET['keyword'] ?? ''))['hits']],
        [$method, $path] === ['POST', '/api/v1/users'] =>
            [201, create_user(json_decode(file_get_contents('php://input'), true))],
        $method === 'POST' && $uid !== '' => [201, upload_resume($uid, file_get_contents('php://input'))],
        $method === 'GET' && is_file(resume($uid)) => [200, file_get_contents(resume($uid))],
        default => [404, ['message' => 'Not Found']],
    };
}

try {
    [$status, $body] = answer($_SERVER['REQUEST_METHOD'], parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
} catch (Throwable $error) {
    [$status, $body] = [500, ['message' => $error->getMessage()]];
}
http_response_code($status);
echo is_string($body) ? $body : json_encode($body) . "\n";
