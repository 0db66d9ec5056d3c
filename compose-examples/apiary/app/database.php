<?php
// What an Apiary database holds, in small, and invented rows for it, the same ones each time.

declare(strict_types=1);

const TABLES = [
    'users' => 'uid varchar(127) NOT NULL UNIQUE, first_name varchar(127) NOT NULL, last_name varchar(127) NOT NULL,
        resume_date datetime NULL',
    'teams' => 'name varchar(127) NOT NULL UNIQUE',
    'attendance' => 'user_id bigint unsigned NOT NULL, team_id bigint unsigned NOT NULL,
        FOREIGN KEY (user_id) REFERENCES users (id), FOREIGN KEY (team_id) REFERENCES teams (id)',
];

// What is not worth its space in a backup, each with the table that it refers to.
const PASSING = [
    'action_events' => 'users',
    'attendance_exports' => null,
    'failed_jobs' => null,
    'jobs' => null,
    'notification_templates' => null,
    'nova_notifications' => 'users',
    'oauth_access_tokens' => 'users',
    'oauth_refresh_tokens' => 'oauth_access_tokens',
    'recruiting_campaigns' => null,
    'recruiting_campaign_recipients' => 'recruiting_campaigns',
    'recruiting_responses' => null,
    'recruiting_visits' => null,
    'remote_attendance_links' => 'users',
    'webhook_calls' => null,
];

function migrate(): void
{
    $tables = TABLES;
    foreach (PASSING as $table => $parent) {
        $tables[$table] = 'payload text NOT NULL, parent_id bigint unsigned NULL'
            . ($parent === null ? '' : ", FOREIGN KEY (parent_id) REFERENCES $parent (id)");
    }
    foreach ($tables as $table => $columns) {
        execute("CREATE TABLE IF NOT EXISTS $table (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, $columns,
            created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)");
    }
    echo count($tables), " tables are there\n";
}

function seed(): void
{
    mt_srand(20251120);
    $chance = fn (array $from) => $from[mt_rand(0, count($from) - 1)];
    $first = ['Ada', 'Alan', 'Barbara', 'Edsger', 'Grace', 'Katherine', 'Linus', 'Margaret', 'Radia', 'Tim'];
    $last = ['Borg', 'Dijkstra', 'Goldberg', 'Hopper', 'Johnson', 'Liskov', 'Lovelace', 'Perlman', 'Turing', 'Ünal'];
    database()->beginTransaction();
    foreach (['BattleBots', 'IGVC', 'Outreach', 'RoboCup', 'RoboRacing'] as $team) {
        execute('INSERT INTO teams (name) VALUES (?)', [$team]);
    }
    for ($n = 1; $n <= 200; $n++) {
        $user = [sprintf('user%03d', $n), $chance($first), $chance($last)];
        execute('INSERT INTO users (uid, first_name, last_name) VALUES (?, ?, ?)', $user);
    }
    for ($n = 0; $n < 2000; $n++) {
        execute('INSERT INTO attendance (user_id, team_id) VALUES (?, ?)', [mt_rand(1, 200), mt_rand(1, 5)]);
    }
    foreach (array_keys(PASSING) as $table) {
        for ($n = 1; $n <= 20; $n++) {
            execute("INSERT INTO $table (payload, parent_id) VALUES (?, ?)", ["$table $n", $n]);
        }
    }
    database()->commit();
    echo "invented users, teams and attendance are there\n";
}

/** Rows of every table, and a checksum over them. */
function summary(): array
{
    $summary = [];
    foreach (execute('SHOW TABLES')->fetchAll(PDO::FETCH_COLUMN) as $table) {
        $rows = rows("SELECT * FROM $table ORDER BY id");
        $summary[$table] = ['rows' => count($rows), 'checksum' => hash('sha256', json_encode($rows))];
    }
    return $summary;
}
